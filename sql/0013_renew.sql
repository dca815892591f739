-- SPDX-License-Identifier: Apache-2.0
-- The vault's keys rotate: rows are sealed anew, as their next version, with
-- nothing else of them changed. Evidence too.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (13, 'renew');

-- Evidence stays as it is, but for its seal.
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
DECLARE
	o jsonb;
	n jsonb;
BEGIN
	IF TG_OP = 'UPDATE' AND TG_LEVEL = 'ROW' THEN
		o := to_jsonb(OLD);
		n := to_jsonb(NEW);
		IF o ? 'seal' AND (n ->> 'ver')::bigint > (o ->> 'ver')::bigint AND
		    n - 'seal' - 'ver' = o - 'seal' - 'ver' THEN
			RETURN NEW;
		END IF;
	END IF;
	RAISE EXCEPTION '% on % is never allowed', TG_OP, TG_TABLE_NAME
	    USING ERRCODE = 'SPD01';
END $$;
GRANT UPDATE (ver, seal) ON policies, decisions, memberships, revoked
    TO sallyport_broker;
COMMIT;
