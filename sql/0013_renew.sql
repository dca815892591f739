-- SPDX-License-Identifier: Apache-2.0
-- The vault's keys rotate: the seal of a row, and its sealed secret, are made
-- anew. Nothing else of the row changes, nor its version.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (13, 'renew');

-- Evidence stays as it is, but for its seal.
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND TG_LEVEL = 'ROW' THEN
		IF to_jsonb(NEW) -> 'seal' IS DISTINCT FROM to_jsonb(OLD) -> 'seal'
		    AND to_jsonb(NEW) - 'seal' = to_jsonb(OLD) - 'seal' THEN
			RETURN NEW;
		END IF;
	END IF;
	RAISE EXCEPTION '% on % is never allowed', TG_OP, TG_TABLE_NAME
	    USING ERRCODE = 'SPD01';
END $$;

-- One row, if it is still what was read: its seal, and where it has one and a
-- new one is given, its secret. With the owner's rights, since the broker may
-- not touch evidence; it gives the broker no more than a seal, and a seal that
-- the vault did not make verifies nowhere.
CREATE FUNCTION renew_seal(tab text, row_id uuid, at_ver bigint, old bytea,
    new bytea, new_sealed bytea) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = sallyport, pg_temp AS $$
DECLARE
	n bigint;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c
	    ON c.oid = a.attrelid WHERE c.relnamespace = 'sallyport'::regnamespace
	    AND c.relkind = 'r' AND c.relname = tab AND a.attname = 'seal' AND
	    NOT a.attisdropped) THEN
		RAISE EXCEPTION '% is no sealed table', tab USING ERRCODE = 'SPD30';
	END IF;
	IF new_sealed IS NOT NULL AND tab NOT IN ('secrets', 'totp') THEN
		RAISE EXCEPTION '% has no secrets', tab USING ERRCODE = 'SPD30';
	END IF;
	IF new_sealed IS NULL THEN
		EXECUTE format('UPDATE sallyport.%I SET seal = $1 WHERE id = $2 '
		    'AND ver = $3 AND seal = $4', tab) USING new, row_id, at_ver, old;
	ELSE
		EXECUTE format('UPDATE sallyport.%I SET seal = $1, sealed = $5 '
		    'WHERE id = $2 AND ver = $3 AND seal = $4', tab)
		    USING new, row_id, at_ver, old, new_sealed;
	END IF;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
REVOKE EXECUTE ON FUNCTION renew_seal(text, uuid, bigint, bytea, bytea, bytea)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION renew_seal(text, uuid, bigint, bytea, bytea, bytea)
    TO sallyport_broker;
COMMIT;
