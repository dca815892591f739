-- SPDX-License-Identifier: Apache-2.0
-- What runs in each check-out and check-in, made cheap. A function with SET is
-- never inlined, is parsed anew in each statement, and changes a setting in
-- each call; where every name is qualified nobody's search_path reaches it.
-- A trigger's WHEN is bound to its columns and operators here, once, and calls
-- the function only for a row that it would refuse.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (17, 'inline');

-- The clock as it is read, also behind a lock that was waited for: volatile.
-- Compared with an index's column it has to be (SELECT now_us()), read once.
CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM pg_catalog.clock_timestamp())
    OPERATOR(pg_catalog.*) 1000000)::bigint $$;

CREATE OR REPLACE FUNCTION audit_links() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
	last pg_catalog.bytea;
BEGIN
	IF NEW.seq OPERATOR(pg_catalog.=) 1 THEN
		last := pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex');
	ELSE
		SELECT hash INTO last FROM sallyport.audit
		    WHERE node OPERATOR(pg_catalog.=) NEW.node
		    AND seq OPERATOR(pg_catalog.=) (NEW.seq OPERATOR(pg_catalog.-) 1);
	END IF;
	IF last IS NULL OR last OPERATOR(pg_catalog.<>) NEW.prev THEN
		RAISE EXCEPTION 'event % of % does not follow its chain', NEW.seq,
		    NEW.node USING ERRCODE = 'SPA01';
	END IF;
	RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION tell_audit() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_notify('sallyport_audit',
	    pg_catalog.concat(NEW.seq, ' ', NEW.node));
	RETURN NULL;
END $$;

DROP TRIGGER moves ON sessions;
CREATE TRIGGER moves BEFORE UPDATE ON sessions FOR EACH ROW
    WHEN (OLD.ended_us IS NOT NULL) EXECUTE FUNCTION session_moves();
DROP TRIGGER keep ON sessions;
CREATE TRIGGER keep BEFORE UPDATE ON sessions FOR EACH ROW
    WHEN ((OLD.id, OLD.person_id, OLD.person_name, OLD.account_name,
    OLD.target_name, OLD.grant_id, OLD.node, OLD.peer_addr, OLD.rule,
    OLD.policy_hash, OLD.started_us) IS DISTINCT FROM
    (NEW.id, NEW.person_id, NEW.person_name, NEW.account_name,
    NEW.target_name, NEW.grant_id, NEW.node, NEW.peer_addr, NEW.rule,
    NEW.policy_hash, NEW.started_us))
    EXECUTE FUNCTION keep_columns('id', 'person_id', 'person_name',
    'account_name', 'target_name', 'grant_id', 'node', 'peer_addr', 'rule',
    'policy_hash', 'started_us');

DROP TRIGGER moves ON leases;
CREATE TRIGGER moves BEFORE UPDATE ON leases FOR EACH ROW
    WHEN (OLD.state <> 'active' OR NEW.expires_us > NEW.until_us)
    EXECUTE FUNCTION lease_moves();
DROP TRIGGER keep ON leases;
CREATE TRIGGER keep BEFORE UPDATE ON leases FOR EACH ROW
    WHEN ((OLD.id, OLD.session_id, OLD.kind, OLD.account, OLD.target,
    OLD.serial, OLD.granted_us, OLD.account_id, OLD.secret_ver,
    OLD.person_id, OLD.person_name, OLD.key_id, OLD.node, OLD.exclusive,
    OLD.until_us) IS DISTINCT FROM
    (NEW.id, NEW.session_id, NEW.kind, NEW.account, NEW.target,
    NEW.serial, NEW.granted_us, NEW.account_id, NEW.secret_ver,
    NEW.person_id, NEW.person_name, NEW.key_id, NEW.node, NEW.exclusive,
    NEW.until_us))
    EXECUTE FUNCTION keep_columns('id', 'session_id', 'kind',
    'account', 'target', 'serial', 'granted_us', 'account_id', 'secret_ver',
    'person_id', 'person_name', 'key_id', 'node', 'exclusive', 'until_us');
COMMIT;
