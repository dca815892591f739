-- SPDX-License-Identifier: Apache-2.0
-- An event wakes those who follow the audit, and nobody else: a notification
-- starts a transaction in each backend that listens, and wakes its broker, for
-- each commit. Who follows holds this lock, shared (bastion/broker/follow.c); a
-- writer that gets it knows that nobody does, until its transaction is over.
-- Two writers at once may take each other for a follower: one notification.
-- Every name is qualified, as in 0017_inline.sql.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (18, 'followers');

CREATE OR REPLACE FUNCTION tell_audit() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	IF NOT pg_catalog.pg_try_advisory_xact_lock(7235419822563) THEN
		PERFORM pg_catalog.pg_notify('sallyport_audit',
		    pg_catalog.concat(NEW.seq, ' ', NEW.node));
	END IF;
	RETURN NULL;
END $$;
COMMIT;
