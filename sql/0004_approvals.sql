-- SPDX-License-Identifier: Apache-2.0
-- Requests, decisions, grants. What must never happen is refused here, whatever
-- the broker believes: approving one's own request, deciding twice, a second
-- grant, a grant without its approvals, a longer window, a state that goes back.
--
-- The order in a transaction of an approval: the decision, then the request's
-- state, then the grant.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (4, 'approvals');

CREATE SEQUENCE request_numbers;
GRANT USAGE ON SEQUENCE request_numbers TO sallyport_broker;

CREATE TABLE requests (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	num bigint NOT NULL UNIQUE CHECK (num > 0),
	person_id uuid NOT NULL REFERENCES people (id),
	account_id uuid NOT NULL REFERENCES accounts (id),
	target_id uuid NOT NULL REFERENCES targets (id),
	reason text NOT NULL CHECK (length(btrim(reason)) > 0),
	ticket text,
	seconds bigint NOT NULL CHECK (seconds > 0),
	approvals int NOT NULL CHECK (approvals BETWEEN 1 AND 100),
	approver_group name_text NOT NULL,
	rule text NOT NULL,
	policy_hash text NOT NULL,
	state text NOT NULL CHECK (state IN
	    ('pending', 'approved', 'denied', 'revoked', 'expired')),
	created_us bigint NOT NULL,
	expires_us bigint NOT NULL CHECK (expires_us > created_us),
	UNIQUE (id, person_id)
);
CREATE INDEX ON requests (person_id, account_id) WHERE state IN ('pending', 'approved');
CREATE INDEX ON requests (state, num);
CREATE INDEX ON requests (account_id);
CREATE INDEX ON requests (target_id);

CREATE TABLE decisions (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	request_id uuid NOT NULL,
	requester_id uuid NOT NULL,
	approver_id uuid NOT NULL REFERENCES people (id),
	verdict text NOT NULL CHECK (verdict IN ('approve', 'deny')),
	comment text NOT NULL,
	at_us bigint NOT NULL,
	FOREIGN KEY (request_id, requester_id) REFERENCES requests (id, person_id),
	CONSTRAINT no_self_approval CHECK (approver_id <> requester_id),
	CONSTRAINT one_decision_each UNIQUE (request_id, approver_id)
);
CREATE INDEX ON decisions (approver_id);

CREATE TABLE grants (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	request_id uuid UNIQUE REFERENCES requests (id),
	person_id uuid NOT NULL REFERENCES people (id),
	account_id uuid NOT NULL REFERENCES accounts (id),
	target_id uuid NOT NULL REFERENCES targets (id),
	starts_us bigint NOT NULL,
	ends_us bigint NOT NULL CHECK (ends_us >= starts_us),
	rights bigint NOT NULL,
	state text NOT NULL CHECK (state IN ('active', 'ended', 'revoked', 'expired')),
	ended_by text
);
CREATE INDEX ON grants (person_id, account_id) WHERE state = 'active';
CREATE INDEX ON grants (account_id);
CREATE INDEX ON grants (target_id);
CREATE INDEX ON grants (ends_us) WHERE state = 'active';

CREATE FUNCTION approvals_of(request uuid) RETURNS bigint
LANGUAGE sql STABLE SET search_path = sallyport, pg_temp AS $$
	SELECT count(DISTINCT approver_id) FROM decisions
	    WHERE request_id = request AND verdict = 'approve'
$$;
GRANT EXECUTE ON FUNCTION approvals_of(uuid) TO sallyport_broker;

CREATE FUNCTION request_begins() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF NEW.state <> 'pending' THEN
		RAISE EXCEPTION 'a request begins pending' USING ERRCODE = 'SPD10';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER begins BEFORE INSERT ON requests
    FOR EACH ROW EXECUTE FUNCTION request_begins();

CREATE FUNCTION request_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF NEW.state = OLD.state THEN
		RETURN NEW;
	END IF;
	IF NOT ((OLD.state = 'pending' AND
	    NEW.state IN ('approved', 'denied', 'revoked', 'expired')) OR
	    (OLD.state = 'approved' AND NEW.state IN ('revoked', 'expired'))) THEN
		RAISE EXCEPTION 'a request does not go from % to %', OLD.state,
		    NEW.state USING ERRCODE = 'SPD11';
	END IF;
	IF NEW.state = 'approved' AND approvals_of(NEW.id) < NEW.approvals THEN
		RAISE EXCEPTION 'request % has % of % approvals', NEW.num,
		    approvals_of(NEW.id), NEW.approvals USING ERRCODE = 'SPD12';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves BEFORE UPDATE ON requests
    FOR EACH ROW EXECUTE FUNCTION request_moves();
CREATE TRIGGER keep BEFORE UPDATE ON requests
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'num', 'person_id',
    'account_id', 'target_id', 'reason', 'ticket', 'seconds', 'approvals',
    'approver_group', 'rule', 'policy_hash', 'created_us', 'expires_us');

-- The lock makes two decisions on one request wait for each other.
CREATE FUNCTION decision_is_due() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
DECLARE
	r record;
BEGIN
	SELECT state, expires_us, num INTO r FROM requests
	    WHERE id = NEW.request_id FOR UPDATE;
	IF NOT FOUND OR r.state <> 'pending' THEN
		RAISE EXCEPTION 'request % is not pending', r.num
		    USING ERRCODE = 'SPD13';
	END IF;
	IF r.expires_us <= now_us() THEN
		RAISE EXCEPTION 'request % has expired', r.num
		    USING ERRCODE = 'SPD14';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER due BEFORE INSERT ON decisions
    FOR EACH ROW EXECUTE FUNCTION decision_is_due();
CREATE TRIGGER evidence BEFORE UPDATE OR DELETE ON decisions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION grant_is_due() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
DECLARE
	r record;
BEGIN
	IF NEW.state <> 'active' THEN
		RAISE EXCEPTION 'a grant begins active' USING ERRCODE = 'SPD15';
	END IF;
	IF NEW.request_id IS NULL THEN
		RETURN NEW;
	END IF;
	SELECT * INTO r FROM requests WHERE id = NEW.request_id FOR UPDATE;
	IF NOT FOUND OR r.state <> 'approved' OR
	    approvals_of(r.id) < r.approvals THEN
		RAISE EXCEPTION 'request % is not approved', r.num
		    USING ERRCODE = 'SPD16';
	END IF;
	IF NEW.person_id <> r.person_id OR NEW.account_id <> r.account_id OR
	    NEW.target_id <> r.target_id OR
	    NEW.ends_us - NEW.starts_us > r.seconds * 1000000 THEN
		RAISE EXCEPTION 'not what request % asked for', r.num
		    USING ERRCODE = 'SPD17';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER due BEFORE INSERT ON grants
    FOR EACH ROW EXECUTE FUNCTION grant_is_due();

CREATE FUNCTION grant_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF NEW.ends_us > OLD.ends_us THEN
		RAISE EXCEPTION 'a grant is never extended' USING ERRCODE = 'SPD18';
	END IF;
	IF NEW.state <> OLD.state AND OLD.state <> 'active' THEN
		RAISE EXCEPTION 'a grant that has ended stays so'
		    USING ERRCODE = 'SPD19';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves BEFORE UPDATE ON grants
    FOR EACH ROW EXECUTE FUNCTION grant_moves();
CREATE TRIGGER keep BEFORE UPDATE ON grants
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'request_id', 'person_id',
    'account_id', 'target_id', 'starts_us', 'rights');

CREATE TRIGGER evidence BEFORE DELETE ON requests
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence BEFORE DELETE ON grants
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON requests
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON grants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON requests
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON grants
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

GRANT SELECT, INSERT, UPDATE (state, ver, seal) ON requests TO sallyport_broker;
GRANT SELECT, INSERT ON decisions TO sallyport_broker;
GRANT SELECT, INSERT, UPDATE (ends_us, state, ended_by, ver, seal) ON grants
    TO sallyport_broker;
COMMIT;
