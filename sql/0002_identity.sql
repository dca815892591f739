-- SPDX-License-Identifier: Apache-2.0
-- People, their keys, groups and second factors. `ver` and `seal` of a sealed
-- table: bastion/broker/store.h.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (2, 'identity');

-- One rule for names at every door; the last one is here (text.h, sp_name_is_valid).
CREATE DOMAIN name_text AS text
    CHECK (VALUE ~ '\A[a-z0-9][a-z0-9._-]{0,31}\Z');

CREATE TABLE people (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	name name_text NOT NULL UNIQUE,
	display text NOT NULL,
	enabled boolean NOT NULL
);
CREATE TABLE person_keys (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	person_id uuid NOT NULL REFERENCES people (id),
	algo text NOT NULL,
	blob bytea NOT NULL UNIQUE CHECK (length(blob) BETWEEN 1 AND 4096),
	comment text NOT NULL,
	enabled boolean NOT NULL
);
CREATE INDEX ON person_keys (person_id);
CREATE TABLE memberships (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	person_id uuid NOT NULL REFERENCES people (id),
	group_name name_text NOT NULL,
	UNIQUE (person_id, group_name)
);
CREATE INDEX ON memberships (group_name);
CREATE TABLE totp (
	id uuid PRIMARY KEY,
	ver bigint NOT NULL CHECK (ver > 0),
	seal bytea NOT NULL CHECK (length(seal) = 32),
	person_id uuid NOT NULL UNIQUE REFERENCES people (id),
	sealed bytea NOT NULL CHECK (length(sealed) BETWEEN 1 AND 1024)
);
-- The last time step that opened something, of the seed's version: never spent
-- twice, never older. A new seed has codes of its own.
CREATE TABLE totp_spent (
	person_id uuid PRIMARY KEY REFERENCES people (id),
	version bigint NOT NULL DEFAULT 0,
	last_step bigint NOT NULL DEFAULT 0,
	fails bigint NOT NULL DEFAULT 0 CHECK (fails >= 0),
	locked_until_us bigint NOT NULL DEFAULT 0
);
CREATE FUNCTION totp_step_grows() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF (NEW.version, NEW.last_step) < (OLD.version, OLD.last_step) OR
	    NEW.person_id <> OLD.person_id THEN
		RAISE EXCEPTION 'a spent time step does not come back'
		    USING ERRCODE = 'SPD03';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER step BEFORE UPDATE ON totp_spent
    FOR EACH ROW EXECUTE FUNCTION totp_step_grows();

CREATE TRIGGER keep BEFORE UPDATE ON people
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'name');
CREATE TRIGGER keep BEFORE UPDATE ON person_keys
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'person_id', 'algo', 'blob');
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON people
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON person_keys
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON memberships
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON totp
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

-- Nobody is deleted: a name in the evidence stays one person's.
GRANT SELECT, INSERT, UPDATE (display, enabled, ver, seal) ON people
    TO sallyport_broker;
GRANT SELECT, INSERT, DELETE, UPDATE (comment, enabled, ver, seal)
    ON person_keys TO sallyport_broker;
GRANT SELECT, INSERT, DELETE ON memberships TO sallyport_broker;
GRANT SELECT, INSERT, DELETE, UPDATE (sealed, ver, seal) ON totp
    TO sallyport_broker;
GRANT SELECT, INSERT, UPDATE (version, last_step, fails, locked_until_us)
    ON totp_spent TO sallyport_broker;
COMMIT;
