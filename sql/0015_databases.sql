-- SPDX-License-Identifier: Apache-2.0
-- Targets that are databases: their protocol, and settings in words
-- (bastion/broker/sql.h). NULL: as before, SSH.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (15, 'databases');

ALTER TABLE targets
	ADD COLUMN protocol text CHECK (protocol IN ('postgresql', 'mariadb')),
	ADD COLUMN sql text CHECK (length(sql) BETWEEN 1 AND 1023);
ALTER TABLE accounts
	ADD COLUMN sql text CHECK (length(sql) BETWEEN 1 AND 599);
-- What a target speaks stays what it was made for.
GRANT UPDATE (sql) ON targets TO sallyport_broker;
GRANT UPDATE (sql) ON accounts TO sallyport_broker;

-- Roles that were made at databases for one session each, written before they are
-- made and until they are gone. Their names follow from the session's id, so that
-- a row that was changed here can name nothing else.
CREATE TABLE session_roles (
	session_id uuid PRIMARY KEY,
	account_id uuid NOT NULL,
	database text NOT NULL CHECK (length(database) BETWEEN 1 AND 63),
	ends_us bigint NOT NULL,	-- then at the latest
	due_us bigint NOT NULL,		-- next try
	tries int NOT NULL DEFAULT 0,
	why text,			-- of the last failure
	gone_us bigint
);
CREATE INDEX ON session_roles (due_us) WHERE gone_us IS NULL;
GRANT SELECT, INSERT, UPDATE (database, due_us, tries, why, gone_us)
    ON session_roles TO sallyport_broker;
COMMIT;
