-- SPDX-License-Identifier: Apache-2.0
-- The audit: a chain for each node, insert-only for everybody, the owner
-- included; heads signed by the vault. hash = SHA-256(prev, canonical event),
-- see bastion/broker/audit.c; here only the links are checked.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (6, 'audit');

CREATE TABLE audit (
	node text NOT NULL CHECK (length(node) BETWEEN 1 AND 64),
	seq bigint NOT NULL CHECK (seq > 0),
	at_us bigint NOT NULL,
	event text NOT NULL,
	actor text NOT NULL,
	session_id uuid,
	detail text,
	prev bytea NOT NULL CHECK (length(prev) = 32),
	hash bytea NOT NULL CHECK (length(hash) = 32),
	PRIMARY KEY (node, seq)
);
CREATE INDEX ON audit (at_us);
CREATE INDEX ON audit (event, at_us);
CREATE INDEX ON audit (actor, at_us);
CREATE INDEX ON audit (session_id) WHERE session_id IS NOT NULL;

CREATE TABLE audit_heads (
	node text NOT NULL,
	seq bigint NOT NULL,
	head bytea NOT NULL CHECK (length(head) = 32),
	at_us bigint NOT NULL,
	signature bytea NOT NULL CHECK (length(signature) = 64),
	PRIMARY KEY (node, seq)
);

CREATE FUNCTION audit_links() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
DECLARE
	last bytea;
BEGIN
	IF NEW.seq = 1 THEN
		last := decode(repeat('00', 32), 'hex');
	ELSE
		SELECT hash INTO last FROM audit
		    WHERE node = NEW.node AND seq = NEW.seq - 1;
	END IF;
	IF last IS DISTINCT FROM NEW.prev THEN
		RAISE EXCEPTION 'event % of % does not follow its chain', NEW.seq,
		    NEW.node USING ERRCODE = 'SPA01';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER links BEFORE INSERT ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_links();

CREATE FUNCTION tell_audit() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	PERFORM pg_notify('sallyport_audit', NEW.seq || ' ' || NEW.node);
	RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON audit
    FOR EACH ROW EXECUTE FUNCTION tell_audit();

CREATE TRIGGER evidence BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence BEFORE UPDATE OR DELETE ON audit_heads
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON audit, audit_heads TO sallyport_broker;
COMMIT;
