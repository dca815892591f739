-- SPDX-License-Identifier: Apache-2.0
-- Release rules, what is signed for them, and credentials that are shown.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (14, 'release');

-- The rule of a secret: its digest is additional data of the seal.
ALTER TABLE secrets ADD COLUMN rule bytea
    CHECK (length(rule) BETWEEN 1 AND 8192);
-- purpose: NULL for a session. challenge: what approvers sign; NULL: nothing.
-- shown_us: when a credential was shown, which happens once.
ALTER TABLE requests
	ADD COLUMN purpose text CHECK (purpose IN ('reveal')),
	ADD COLUMN challenge bytea CHECK (length(challenge) BETWEEN 1 AND 4096),
	ADD COLUMN shown_us bigint;
ALTER TABLE requests ADD CONSTRAINT reveal_by_two
    CHECK (purpose IS NULL OR approvals >= 2);
ALTER TABLE decisions ADD COLUMN signature bytea
    CHECK (length(signature) BETWEEN 1 AND 8192);

DROP TRIGGER keep ON requests;
CREATE TRIGGER keep BEFORE UPDATE ON requests
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'num', 'person_id',
    'account_id', 'target_id', 'reason', 'ticket', 'seconds', 'approvals',
    'approver_group', 'rule', 'policy_hash', 'created_us', 'expires_us', 'rules',
    'purpose', 'challenge');

CREATE FUNCTION request_is_shown() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF OLD.shown_us IS NOT NULL AND
	    NEW.shown_us IS DISTINCT FROM OLD.shown_us THEN
		RAISE EXCEPTION 'request % was shown already', OLD.num
		    USING ERRCODE = 'SPD23';
	END IF;
	IF NEW.shown_us IS NOT NULL AND OLD.shown_us IS NULL AND
	    (NEW.purpose IS DISTINCT FROM 'reveal' OR NEW.state <> 'approved') THEN
		RAISE EXCEPTION 'request % is not approved for that', OLD.num
		    USING ERRCODE = 'SPD24';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER shown_once BEFORE UPDATE ON requests
    FOR EACH ROW EXECUTE FUNCTION request_is_shown();

-- What was approved to be shown is no grant; what asks for signatures has them.
CREATE FUNCTION grant_is_no_reveal() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM requests WHERE id = NEW.request_id AND
	    purpose IS NOT NULL) THEN
		RAISE EXCEPTION 'that request is not for a session'
		    USING ERRCODE = 'SPD25';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER no_reveal BEFORE INSERT ON grants
    FOR EACH ROW EXECUTE FUNCTION grant_is_no_reveal();
CREATE FUNCTION decision_is_signed() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF NEW.verdict = 'approve' AND NEW.signature IS NULL AND
	    EXISTS (SELECT FROM requests WHERE id = NEW.request_id AND
	    challenge IS NOT NULL) THEN
		RAISE EXCEPTION 'a signature is owed' USING ERRCODE = 'SPD26';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER signed BEFORE INSERT ON decisions
    FOR EACH ROW EXECUTE FUNCTION decision_is_signed();

-- Break-glass kits: never what opens them. entries: lines of "account@target
-- secret version". opened_at, opened_by and opened_why are what the receipt says.
CREATE TABLE break_glass_kits (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	k int NOT NULL CHECK (k >= 2),
	n int NOT NULL CHECK (n >= k AND n <= 32),
	note text NOT NULL,
	made_by text NOT NULL,
	made_us bigint NOT NULL,
	expires_us bigint NOT NULL,
	receipt_key bytea NOT NULL CHECK (length(receipt_key) = 32),
	entries text NOT NULL,
	opened_at text,
	opened_by text,
	opened_why text,
	imported_by text,
	imported_us bigint,
	reviewed_by text,
	reviewed_us bigint,
	review text,
	CONSTRAINT reviewed_by_another CHECK (reviewed_by <> imported_by)
);
CREATE INDEX ON break_glass_kits (made_us);
CREATE FUNCTION kit_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF (OLD.opened_at IS NOT NULL AND (NEW.opened_at, NEW.opened_by,
	    NEW.opened_why, NEW.imported_by, NEW.imported_us) IS DISTINCT FROM
	    (OLD.opened_at, OLD.opened_by, OLD.opened_why, OLD.imported_by,
	    OLD.imported_us)) OR (OLD.reviewed_us IS NOT NULL AND
	    (NEW.reviewed_by, NEW.reviewed_us, NEW.review) IS DISTINCT FROM
	    (OLD.reviewed_by, OLD.reviewed_us, OLD.review)) THEN
		RAISE EXCEPTION 'what was said of kit % stays', OLD.id
		    USING ERRCODE = 'SPD27';
	END IF;
	IF NEW.reviewed_us IS NOT NULL AND (NEW.opened_at IS NULL OR
	    NEW.reviewed_by IS NULL) THEN
		RAISE EXCEPTION 'kit % was not opened', OLD.id
		    USING ERRCODE = 'SPD28';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves BEFORE UPDATE ON break_glass_kits
    FOR EACH ROW EXECUTE FUNCTION kit_moves();
CREATE TRIGGER keep BEFORE UPDATE ON break_glass_kits
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'k', 'n', 'note', 'made_by',
    'made_us', 'expires_us', 'receipt_key', 'entries');
CREATE TRIGGER evidence BEFORE DELETE ON break_glass_kits
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON break_glass_kits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT, UPDATE (opened_at, opened_by, opened_why, imported_by,
    imported_us, reviewed_by, reviewed_us, review, ver, seal) ON break_glass_kits
    TO sallyport_broker;

GRANT UPDATE (rule) ON secrets TO sallyport_broker;
GRANT UPDATE (shown_us) ON requests TO sallyport_broker;
COMMIT;
