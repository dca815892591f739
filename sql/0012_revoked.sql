-- SPDX-License-Identifier: Apache-2.0
-- Certificates that are good no more, for the revocation list that targets
-- load: by serial, by session (the key id), and whole CAs. Those of sessions
-- that have ended are read from the leases.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (12, 'revoked');

CREATE TABLE revoked (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	what text NOT NULL CHECK (what IN ('serial', 'session', 'ca')),
	value text NOT NULL CHECK (length(value) BETWEEN 1 AND 4096),
	reason text NOT NULL CHECK (length(reason) <= 512),
	made_by text NOT NULL,
	made_us bigint NOT NULL,
	until_us bigint CHECK (until_us > made_us),
	-- A CA is not good again by itself; all else expires.
	CHECK ((what = 'ca') = (until_us IS NULL)),
	UNIQUE (what, value)
);
CREATE TRIGGER keep BEFORE UPDATE ON revoked
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tell AFTER INSERT OR DELETE ON revoked
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE INDEX ON leases (granted_us) WHERE ended_us IS NOT NULL AND serial IS NOT NULL;

GRANT SELECT, INSERT, DELETE ON revoked TO sallyport_broker;
COMMIT;
