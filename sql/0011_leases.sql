-- SPDX-License-Identifier: Apache-2.0
-- Leases: one row for each credential that a session was given, found by what
-- is due. An account may be exclusive: then one active lease at a time, by a
-- unique index that no race and no second bastion passes.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (11, 'leases');

ALTER TABLE accounts ADD COLUMN exclusive boolean;
GRANT UPDATE (exclusive) ON accounts TO sallyport_broker;

ALTER TABLE leases DROP CONSTRAINT leases_pkey,
	ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	ADD COLUMN account_id uuid,
	ADD COLUMN secret_ver bigint,	-- NULL: minted for this lease
	ADD COLUMN person_id uuid,
	ADD COLUMN person_name text,
	ADD COLUMN key_id uuid,		-- with which the holder logged in
	ADD COLUMN node text,
	ADD COLUMN exclusive boolean NOT NULL DEFAULT false,
	ADD COLUMN expires_us bigint NOT NULL DEFAULT 0, -- due, unless renewed
	ADD COLUMN until_us bigint NOT NULL DEFAULT 0,	-- never after this
	ADD COLUMN state text NOT NULL DEFAULT 'active'
	    CHECK (state IN ('active', 'ended', 'expired', 'revoked'));
UPDATE leases SET state = 'ended' WHERE ended_us IS NOT NULL;
ALTER TABLE leases
	ADD CONSTRAINT lease_ends CHECK ((state = 'active') = (ended_us IS NULL)),
	ADD CONSTRAINT lease_has_account CHECK (NOT exclusive OR
	    (account_id IS NOT NULL AND person_id IS NOT NULL));
DROP INDEX leases_granted_us_idx;
CREATE INDEX leases_session ON leases (session_id);
CREATE INDEX leases_due ON leases (expires_us) WHERE state = 'active';
CREATE INDEX leases_account ON leases (account_id) WHERE state = 'active';
CREATE UNIQUE INDEX leases_one_holder ON leases (account_id)
    WHERE exclusive AND state = 'active';
-- Millions of rows stay, a few are updated: dead entries go early.
ALTER TABLE leases SET (autovacuum_vacuum_scale_factor = 0.01);

CREATE FUNCTION lease_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF OLD.state <> 'active' AND (NEW.state <> OLD.state OR
	    NEW.ended_us <> OLD.ended_us OR NEW.expires_us <> OLD.expires_us) THEN
		RAISE EXCEPTION 'lease % has ended', OLD.id USING ERRCODE = 'SPD26';
	END IF;
	IF NEW.expires_us > NEW.until_us THEN
		RAISE EXCEPTION 'a lease is not renewed past its end'
		    USING ERRCODE = 'SPD27';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves BEFORE UPDATE ON leases
    FOR EACH ROW EXECUTE FUNCTION lease_moves();
DROP TRIGGER keep ON leases;
CREATE TRIGGER keep BEFORE UPDATE ON leases
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'session_id', 'kind',
    'account', 'target', 'serial', 'granted_us', 'account_id', 'secret_ver',
    'person_id', 'person_name', 'key_id', 'node', 'exclusive', 'until_us');
GRANT UPDATE (state, expires_us) ON leases TO sallyport_broker;
COMMIT;
