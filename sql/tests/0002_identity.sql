-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
-- Names that look alike or break a line do not get in.
SELECT t.refused('23514', format('INSERT INTO people VALUES (%L, 1, t.seal(), %L, %L, true)',
    t.id('x'), n, '')) FROM unnest(ARRAY['Alice', '', 'a b', '-a', '.a', 'a/b', E'a\n',
    'ä', 'a''b', repeat('a', 33), E'a\u202e']) n;
SELECT t.refused('23505', 'INSERT INTO people VALUES (t.id($$y$$), 1, t.seal(), $$alice$$, $$$$, true)');
SELECT t.refused('23514', 'INSERT INTO people VALUES (t.id($$y$$), 1, $$\x00$$, $$eve$$, $$$$, true)');
SELECT t.refused('42501', 'UPDATE people SET name = $$eve$$');
SELECT t.refused('42501', 'DELETE FROM people');
-- One key is one person's.
INSERT INTO person_keys VALUES (t.id('k'), 1, t.seal(), t.id('alice'), 'ssh-ed25519', '\x01', '', true);
SELECT t.refused('23505', 'INSERT INTO person_keys VALUES (t.id($$k2$$), 1, t.seal(),'
    't.id($$bob$$), $$ssh-ed25519$$, $$\x01$$, $$$$, true)');
SELECT t.refused('42501', 'UPDATE person_keys SET person_id = t.id($$bob$$)');
INSERT INTO memberships VALUES (t.id('m'), 1, t.seal(), t.id('alice'), 'dba');
SELECT t.refused('23505', 'INSERT INTO memberships VALUES (t.id($$m2$$), 1, t.seal(), t.id($$alice$$), $$dba$$)');
SELECT t.refused('42501', 'UPDATE memberships SET group_name = $$administrators$$');
SELECT t.refused('23503', 'INSERT INTO memberships VALUES (t.id($$m3$$), 1, t.seal(), t.id($$nobody$$), $$dba$$)');
-- A step is spent once, whoever races.
INSERT INTO totp_spent (person_id, last_step) VALUES (t.id('alice'), 100);
WITH u AS (UPDATE totp_spent SET last_step = 101 WHERE person_id = t.id('alice') AND last_step < 101 RETURNING 1)
    SELECT t.is(count(*), 1::bigint, 'first') FROM u;
WITH u AS (UPDATE totp_spent SET last_step = 101 WHERE person_id = t.id('alice') AND last_step < 101 RETURNING 1)
    SELECT t.is(count(*), 0::bigint, 'second') FROM u;
SELECT t.refused('SPD03', 'UPDATE totp_spent SET last_step = 100');
-- a new seed has steps of its own; the old seed's never come back
UPDATE totp_spent SET version = 2, last_step = 50;
SELECT t.refused('SPD03', 'UPDATE totp_spent SET version = 1, last_step = 200');
SELECT t.refused('42501', 'DELETE FROM totp_spent');
RESET ROLE;
SELECT t.refused('SPD02', 'UPDATE sallyport.people SET name = $$eve$$ WHERE name = $$bob$$');
