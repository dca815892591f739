-- SPDX-License-Identifier: Apache-2.0
-- Rotation of passwords and keys. A secret's versions are rows of their own,
-- which are never written over: `version` is in the additional data of its seal,
-- `state` says what it is for. NULL in rows of before: version is `ver`, and the
-- account names its one secret.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (9, 'rotation');

ALTER TABLE secrets
	ADD COLUMN account_id uuid,
	ADD COLUMN version bigint CHECK (version > 0),
	ADD COLUMN state text CHECK (state IN ('pending', 'current', 'previous',
	    'failed')),
	ADD COLUMN made_us bigint,
	-- what stands for it in a recording: keyed by the vault
	ADD COLUMN tag bytea CHECK (length(tag) = 32);
-- One candidate at a time, and one that is in use.
CREATE UNIQUE INDEX secrets_pending ON secrets (account_id)
    WHERE state = 'pending';
CREATE UNIQUE INDEX secrets_current ON secrets (account_id)
    WHERE state = 'current';
CREATE UNIQUE INDEX secrets_version ON secrets (account_id, version);

ALTER TABLE accounts
	-- "after-use", "30d", "after-use 30d"
	ADD COLUMN rotate text CHECK (length(rotate) BETWEEN 1 AND 64),
	-- "length=24 lower=1 upper=1 digit=1 symbol=1 forbid=..."
	ADD COLUMN password_rule text
	    CHECK (length(password_rule) BETWEEN 1 AND 256);
-- The account of the target that sets another's secret there when that one
-- cannot any more.
ALTER TABLE targets ADD COLUMN reconcile uuid REFERENCES accounts (id);
CREATE INDEX ON targets (reconcile);

-- One row for each account that is or was rotated; its id is the account's.
CREATE TABLE rotations (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	state text NOT NULL CHECK (state IN ('idle', 'running', 'failed',
	    'out_of_sync')),
	why text NOT NULL,		-- it is due, or what failed
	due_us bigint,
	last_us bigint,
	failures bigint NOT NULL CHECK (failures >= 0),
	node text,			-- that runs it
	claimed_us bigint
);
CREATE INDEX ON rotations (due_us) WHERE due_us IS NOT NULL;
CREATE INDEX ON rotations (node) WHERE node IS NOT NULL;
CREATE TRIGGER keep BEFORE UPDATE ON rotations
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id');

-- The secret itself is never changed under its version.
CREATE FUNCTION secret_is_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF OLD.version IS NOT NULL AND (NEW.version <> OLD.version OR
	    NEW.account_id <> OLD.account_id OR NEW.kind <> OLD.kind OR
	    NEW.tag IS DISTINCT FROM OLD.tag OR
	    NEW.made_us IS DISTINCT FROM OLD.made_us) THEN
		RAISE EXCEPTION 'a version of a secret is not written over'
		    USING ERRCODE = 'SPD22';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER version_is_kept BEFORE UPDATE ON secrets
    FOR EACH ROW EXECUTE FUNCTION secret_is_kept();

-- What a session is, where it is nobody's: "rotation".
ALTER TABLE sessions ADD COLUMN kind text CHECK (length(kind) BETWEEN 1 AND 32);

GRANT UPDATE (account_id, version, state, made_us, tag) ON secrets
    TO sallyport_broker;
GRANT UPDATE (rotate, password_rule) ON accounts TO sallyport_broker;
GRANT UPDATE (reconcile) ON targets TO sallyport_broker;
GRANT SELECT, INSERT, DELETE, UPDATE (state, why, due_us, last_us, failures,
    node, claimed_us, ver, seal) ON rotations TO sallyport_broker;
COMMIT;
