-- SPDX-License-Identifier: Apache-2.0
-- Roles, schema, version table. Every file of this folder is one transaction,
-- applied in order by psql as a role that may create roles (the superuser of the
-- embedded cluster). Applying a file twice fails and changes nothing.
\set ON_ERROR_STOP on
BEGIN;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sallyport_owner') THEN
		CREATE ROLE sallyport_owner NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sallyport_broker') THEN
		CREATE ROLE sallyport_broker LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE
		    CONNECTION LIMIT 40;
	END IF;
	-- To create objects for the owner; a superuser needs no membership.
	IF NOT pg_has_role(current_user, 'sallyport_owner', 'MEMBER') THEN
		EXECUTE format('GRANT sallyport_owner TO %I', current_user);
	END IF;
	EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
	EXECUTE format('GRANT CONNECT ON DATABASE %I TO sallyport_broker',
	    current_database());
END $$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA sallyport AUTHORIZATION sallyport_owner;
GRANT USAGE ON SCHEMA sallyport TO sallyport_broker;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
-- Functions are for those who are named, never for everybody.
ALTER DEFAULT PRIVILEGES FOR ROLE sallyport_owner
    REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE TABLE schema_version (
	version int PRIMARY KEY,
	name text NOT NULL,
	applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON schema_version TO sallyport_broker;

CREATE FUNCTION now_us() RETURNS bigint LANGUAGE sql STABLE
SET search_path = sallyport, pg_temp AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;
GRANT EXECUTE ON FUNCTION now_us() TO sallyport_broker;

-- The statements of a change are sent in one go: a statement that did not
-- touch the rows that it must touch ends the transaction by itself.
CREATE FUNCTION must_affect(done bigint, must bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF done <> must THEN
		RAISE EXCEPTION '% rows instead of %', done, must
		    USING ERRCODE = 'SPS01';
	END IF;
	RETURN done;
END $$;
GRANT EXECUTE ON FUNCTION must_affect(bigint, bigint) TO sallyport_broker;

-- Wakes the brokers; the payload is the table's name.
CREATE FUNCTION tell_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	PERFORM pg_notify('sallyport_change', TG_TABLE_NAME);
	RETURN NULL;
END $$;

-- For tables that are evidence: against everybody, the owner included.
CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	RAISE EXCEPTION '% on % is never allowed', TG_OP, TG_TABLE_NAME
	    USING ERRCODE = 'SPD01';
END $$;

-- The columns named by the trigger's arguments stay as they were inserted.
CREATE FUNCTION keep_columns() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
DECLARE
	o jsonb := to_jsonb(OLD);
	n jsonb := to_jsonb(NEW);
	c text;
BEGIN
	FOREACH c IN ARRAY TG_ARGV LOOP
		IF o -> c IS DISTINCT FROM n -> c THEN
			RAISE EXCEPTION '%.% never changes', TG_TABLE_NAME, c
			    USING ERRCODE = 'SPD02';
		END IF;
	END LOOP;
	RETURN NEW;
END $$;

INSERT INTO schema_version (version, name) VALUES (1, 'base');
COMMIT;
