-- SPDX-License-Identifier: Apache-2.0
-- Sessions and leases: what ran. Names stand here as they were, so that the
-- record reads the same after the inventory has changed.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (5, 'sessions');

CREATE SEQUENCE cert_serials;
GRANT USAGE ON SEQUENCE cert_serials TO sallyport_broker;

CREATE TABLE sessions (
	id uuid PRIMARY KEY,
	person_id uuid NOT NULL,
	person_name text NOT NULL,
	account_name text NOT NULL,
	target_name text NOT NULL,
	grant_id uuid,
	node text NOT NULL,
	peer_addr text NOT NULL,
	rule text NOT NULL,
	policy_hash text NOT NULL,
	started_us bigint NOT NULL,
	ended_us bigint,
	state text NOT NULL,
	end_code int,
	reason text,
	bytes_in bigint NOT NULL DEFAULT 0,
	bytes_out bigint NOT NULL DEFAULT 0,
	chunks bigint NOT NULL DEFAULT 0,
	head bytea CHECK (length(head) = 32),
	recovered boolean NOT NULL DEFAULT false
);
CREATE INDEX ON sessions (started_us DESC);
CREATE INDEX ON sessions (person_name, started_us DESC);
CREATE INDEX ON sessions (target_name, started_us DESC);
CREATE INDEX ON sessions (grant_id);
CREATE INDEX ON sessions (node) WHERE ended_us IS NULL;

CREATE TABLE leases (
	session_id uuid PRIMARY KEY REFERENCES sessions (id),
	kind int NOT NULL,
	account text NOT NULL,
	target text NOT NULL,
	serial bigint,
	granted_us bigint NOT NULL,
	used_us bigint,
	ended_us bigint
);
CREATE INDEX ON leases (granted_us) WHERE ended_us IS NULL;

-- A session that has ended does not run again, nor end another way.
CREATE FUNCTION session_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF OLD.ended_us IS NOT NULL AND (NEW.ended_us IS DISTINCT FROM OLD.ended_us OR
	    NEW.state <> OLD.state OR
	    (OLD.head IS NOT NULL AND NEW.head IS DISTINCT FROM OLD.head)) THEN
		RAISE EXCEPTION 'session % has ended', OLD.id USING ERRCODE = 'SPD20';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves BEFORE UPDATE ON sessions
    FOR EACH ROW EXECUTE FUNCTION session_moves();
CREATE TRIGGER keep BEFORE UPDATE ON sessions
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'person_id', 'person_name',
    'account_name', 'target_name', 'grant_id', 'node', 'peer_addr', 'rule',
    'policy_hash', 'started_us');
CREATE TRIGGER evidence BEFORE DELETE ON sessions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep BEFORE UPDATE ON leases
    FOR EACH ROW EXECUTE FUNCTION keep_columns('session_id', 'kind', 'account',
    'target', 'serial', 'granted_us');
CREATE TRIGGER evidence BEFORE DELETE ON leases
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON leases
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT, UPDATE (ended_us, state, end_code, reason, bytes_in,
    bytes_out, chunks, head, recovered) ON sessions TO sallyport_broker;
GRANT SELECT, INSERT, UPDATE (used_us, ended_us) ON leases TO sallyport_broker;
COMMIT;
