-- SPDX-License-Identifier: Apache-2.0
-- Recordings after their session: in the store of objects, held, and at their end.
-- What stands here decides nothing alone: a copy on the disk goes after it was
-- compared with the store once more, and a recording ends after the leaf of its end.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL ROLE sallyport_owner;
SET LOCAL search_path = sallyport, pg_temp;
INSERT INTO schema_version (version, name) VALUES (19, 'retention');

-- When the recording is due to be sent; NULL: the store has it, or it is no more.
ALTER TABLE sessions ADD COLUMN ship_us bigint DEFAULT 0;
CREATE INDEX sessions_to_ship ON sessions (node, ship_us)
    WHERE ship_us IS NOT NULL AND ended_us IS NOT NULL;
GRANT UPDATE (ship_us) ON sessions TO sallyport_broker;

CREATE TABLE shipments (
	session_id uuid PRIMARY KEY REFERENCES sessions (id),
	node text NOT NULL,
	tries int NOT NULL DEFAULT 0,		-- that failed
	error text,				-- the last one
	size bigint CHECK (size > 0),
	sha256 bytea CHECK (length(sha256) = 32),
	how int,				-- enum sp_ship_how
	shipped_us bigint,
	local boolean NOT NULL DEFAULT true,	-- the copy on its bastion's disk
	drop_us bigint,				-- not tried again before this
	CONSTRAINT shipped_is_known CHECK (shipped_us IS NULL OR
	    (size IS NOT NULL AND sha256 IS NOT NULL AND how IS NOT NULL)),
	CONSTRAINT unshipped_is_local CHECK (shipped_us IS NOT NULL OR local)
);
CREATE INDEX shipments_local ON shipments (node, shipped_us)
    WHERE local AND shipped_us IS NOT NULL;
CREATE FUNCTION shipment_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF OLD.shipped_us IS NOT NULL AND (NEW.shipped_us IS DISTINCT FROM
	    OLD.shipped_us OR NEW.sha256 <> OLD.sha256 OR NEW.size <> OLD.size) THEN
		RAISE EXCEPTION 'recording % is in the store', OLD.session_id
		    USING ERRCODE = 'SPD30';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves BEFORE UPDATE ON shipments
    FOR EACH ROW EXECUTE FUNCTION shipment_moves();
CREATE TRIGGER keep BEFORE UPDATE ON shipments
    FOR EACH ROW EXECUTE FUNCTION keep_columns('session_id', 'node');
CREATE TRIGGER evidence BEFORE DELETE ON shipments
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON shipments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT, UPDATE (tries, error, size, sha256, how, shipped_us, local, drop_us)
    ON shipments TO sallyport_broker;

-- Who holds a recording, and until when: it is not deleted meanwhile. Released by
-- two people where the configuration says so.
CREATE TABLE holds (
	id uuid PRIMARY KEY,
	session_id uuid NOT NULL REFERENCES sessions (id),
	reason text NOT NULL CHECK (reason <> ''),
	by_name text NOT NULL,
	made_us bigint NOT NULL,
	asked_by text,			-- first of two to release it
	asked_us bigint,
	released_by text,
	released_us bigint,
	logged int NOT NULL DEFAULT 0,	-- in its bastion's log: 1 it, 2 its release
	CONSTRAINT release_is_whole CHECK ((released_by IS NULL) =
	    (released_us IS NULL))
);
CREATE INDEX holds_session ON holds (session_id) WHERE released_us IS NULL;
CREATE INDEX holds_to_log ON holds (made_us) WHERE logged < 2;
CREATE FUNCTION hold_moves() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	IF OLD.released_us IS NOT NULL AND (NEW.released_us, NEW.released_by,
	    NEW.asked_us, NEW.asked_by) IS DISTINCT FROM (OLD.released_us,
	    OLD.released_by, OLD.asked_us, OLD.asked_by) THEN
		RAISE EXCEPTION 'hold % was released', OLD.id USING ERRCODE = 'SPD31';
	END IF;
	IF NEW.logged < OLD.logged THEN
		RAISE EXCEPTION 'hold % is in the log', OLD.id USING ERRCODE = 'SPD31';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves BEFORE UPDATE ON holds
    FOR EACH ROW EXECUTE FUNCTION hold_moves();
CREATE TRIGGER keep BEFORE UPDATE ON holds
    FOR EACH ROW EXECUTE FUNCTION keep_columns('id', 'session_id', 'reason',
    'by_name', 'made_us');
CREATE TRIGGER evidence BEFORE DELETE ON holds
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT, UPDATE (asked_by, asked_us, released_by, released_us, logged)
    ON holds TO sallyport_broker;

-- The end of a recording. The row comes with the decision: from then on nobody
-- holds it and nobody plays it.
CREATE TABLE deletions (
	session_id uuid PRIMARY KEY REFERENCES sessions (id),
	rule text NOT NULL,
	by_name text NOT NULL,
	decided_us bigint NOT NULL,
	done_us bigint,
	tries int NOT NULL DEFAULT 0,
	next_us bigint NOT NULL DEFAULT 0,
	error text
);
CREATE INDEX deletions_due ON deletions (next_us) WHERE done_us IS NULL;
-- A hold and a deletion of one recording come one after the other: the second one
-- finds the first. Both lock the session's row.
CREATE FUNCTION hold_or_delete() RETURNS trigger
LANGUAGE plpgsql SET search_path = sallyport, pg_temp AS $$
BEGIN
	PERFORM 1 FROM sessions WHERE id = NEW.session_id FOR NO KEY UPDATE;
	IF TG_TABLE_NAME = 'holds' AND EXISTS (SELECT 1 FROM deletions
	    WHERE session_id = NEW.session_id) THEN
		RAISE EXCEPTION 'recording % is deleted', NEW.session_id
		    USING ERRCODE = 'SPD32';
	END IF;
	IF TG_TABLE_NAME = 'deletions' AND (EXISTS (SELECT 1 FROM holds
	    WHERE session_id = NEW.session_id AND released_us IS NULL) OR
	    (SELECT ended_us FROM sessions WHERE id = NEW.session_id) IS NULL) THEN
		RAISE EXCEPTION 'recording % is held', NEW.session_id
		    USING ERRCODE = 'SPD33';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER one_of_two BEFORE INSERT ON holds
    FOR EACH ROW EXECUTE FUNCTION hold_or_delete();
CREATE TRIGGER one_of_two BEFORE INSERT ON deletions
    FOR EACH ROW EXECUTE FUNCTION hold_or_delete();
CREATE TRIGGER keep BEFORE UPDATE ON deletions
    FOR EACH ROW EXECUTE FUNCTION keep_columns('session_id', 'rule', 'by_name',
    'decided_us');
CREATE TRIGGER evidence BEFORE DELETE ON deletions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_truncate BEFORE TRUNCATE ON deletions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT, UPDATE (done_us, tries, next_us, error)
    ON deletions TO sallyport_broker;
COMMIT;
