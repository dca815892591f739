-- SPDX-License-Identifier: Apache-2.0
-- Targets, accounts on them, sealed secrets, policies.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (3, 'inventory');

CREATE TABLE targets (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	name name_text NOT NULL UNIQUE,
	addr text NOT NULL CHECK (length(addr) BETWEEN 1 AND 64),
	port int NOT NULL CHECK (port BETWEEN 1 AND 65535),
	host_keys text NOT NULL,	-- lines of "algo base64": the pins
	tags text NOT NULL,
	enabled boolean NOT NULL
);
-- owner_id is the target that the secret is for. Nothing here can be read
-- without the vault.
CREATE TABLE secrets (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	owner_id uuid NOT NULL,
	kind int NOT NULL,
	sealed bytea NOT NULL CHECK (length(sealed) BETWEEN 1 AND 8192)
);
CREATE INDEX ON secrets (owner_id);
CREATE TABLE accounts (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	target_id uuid NOT NULL REFERENCES targets (id),
	name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
	kind int NOT NULL,
	secret_id uuid REFERENCES secrets (id),
	UNIQUE (target_id, name)
);
CREATE INDEX ON accounts (secret_id);
CREATE TABLE policies (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	seq bigint NOT NULL UNIQUE,
	body text NOT NULL,
	hash text NOT NULL,
	loaded_by text NOT NULL,
	loaded_us bigint NOT NULL
);

CREATE TRIGGER keep BEFORE UPDATE ON targets
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'name');
CREATE TRIGGER keep BEFORE UPDATE ON accounts
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'target_id', 'name');
CREATE TRIGGER keep BEFORE UPDATE ON secrets
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'owner_id');
CREATE TRIGGER evidence BEFORE UPDATE OR DELETE ON policies
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON policies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON targets
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON policies
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

GRANT SELECT, INSERT, DELETE,
    UPDATE (addr, port, host_keys, tags, enabled, ver, seal)
    ON targets TO sallyport_broker;
GRANT SELECT, INSERT, DELETE, UPDATE (kind, secret_id, ver, seal) ON accounts
    TO sallyport_broker;
GRANT SELECT, INSERT, DELETE, UPDATE (kind, sealed, ver, seal) ON secrets
    TO sallyport_broker;
GRANT SELECT, INSERT ON policies TO sallyport_broker;
COMMIT;
