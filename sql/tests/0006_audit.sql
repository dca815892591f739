-- SPDX-License-Identifier: Apache-2.0
CREATE FUNCTION t.h(n int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT decode(repeat(lpad(to_hex(n), 2, '0'), 32), 'hex') $$;
CREATE FUNCTION t.event(n text, seq bigint, prev int, hash int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO sallyport.audit VALUES (n, seq, 1, 'e', 'a', NULL, NULL, t.h(prev), t.h(hash))
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
SET ROLE sallyport_broker;
SET search_path = sallyport;
SELECT t.refused('SPA01', $q$SELECT t.event('n', 2, 0, 1)$q$);
SELECT t.refused('SPA01', $q$SELECT t.event('n', 1, 9, 1)$q$);
SELECT t.refused('SPA01', $q$SELECT t.event('n', 0, 0, 1)$q$);
SELECT t.event('n', 1, 0, 1), t.event('n', 2, 1, 2);
SELECT t.refused('SPA01', $q$SELECT t.event('n', 3, 1, 3)$q$);
SELECT t.refused('SPA01', $q$SELECT t.event('n', 4, 2, 4)$q$);
SELECT t.refused('23505', $q$SELECT t.event('n', 2, 1, 2)$q$);
SELECT t.event('other', 1, 0, 7);
INSERT INTO audit_heads VALUES ('n', 2, t.h(2), 5, decode(repeat('00', 64), 'hex'));
SELECT t.refused('23505', $q$INSERT INTO audit_heads VALUES ('n', 2, t.h(3), 5, decode(repeat('00', 64), 'hex'))$q$);
SELECT t.refused('42501', 'UPDATE audit SET actor = $$x$$');
SELECT t.refused('42501', 'DELETE FROM audit');
SELECT t.refused('42501', 'TRUNCATE audit');
SELECT t.refused('42501', 'UPDATE audit_heads SET seq = 9');
SELECT t.refused('42501', 'DELETE FROM audit_heads');
RESET ROLE;
-- Insert-only for everybody: the owner and the superuser too.
SELECT t.refused('SPD01', 'UPDATE sallyport.audit SET actor = $$x$$');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.audit');
SELECT t.refused('SPD01', 'TRUNCATE sallyport.audit');
SET ROLE sallyport_owner;
SELECT t.refused('SPD01', 'UPDATE sallyport.audit SET actor = $$x$$');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.audit');
SELECT t.refused('SPD01', 'TRUNCATE sallyport.audit');
SELECT t.refused('SPD01', 'UPDATE sallyport.audit_heads SET seq = 9');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.audit_heads');
SELECT t.refused('SPD01', 'TRUNCATE sallyport.audit_heads');
