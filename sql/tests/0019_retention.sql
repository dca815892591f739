-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO sessions (id, person_id, person_name, account_name, target_name, node, peer_addr,
    rule, policy_hash, started_us, state) SELECT t.id(s), t.id('alice'), 'alice', 'root',
    'core-01', 'n', '192.0.2.9', 'r', 'h', 1, 'running' FROM unnest(ARRAY['s', 's2', 's3']) s;
SELECT t.is(ship_us, 0::bigint, 'due at once') FROM sessions WHERE id = t.id('s');
-- What is not known to be in the store is local, and what is does not change.
SELECT t.refused('23514', 'INSERT INTO shipments (session_id, node, local) VALUES (t.id($$s$$), $$n$$, false)');
SELECT t.refused('23514', 'INSERT INTO shipments (session_id, node, shipped_us) VALUES (t.id($$s$$), $$n$$, 5)');
INSERT INTO shipments (session_id, node, tries, error) VALUES (t.id('s'), 'n', 1, 'no');
UPDATE shipments SET size = 10, sha256 = t.seal(), how = 1, shipped_us = 5, error = NULL;
SELECT t.refused('SPD30', 'UPDATE shipments SET size = 11');
SELECT t.refused('SPD30', 'UPDATE shipments SET shipped_us = NULL, local = true');
SELECT t.refused('42501', 'UPDATE shipments SET node = $$m$$');
UPDATE shipments SET local = false;
SELECT t.refused('42501', 'DELETE FROM shipments');
-- A session that runs has no end of its recording; a held one neither.
SELECT t.refused('SPD33', 'INSERT INTO deletions (session_id, rule, by_name, decided_us) VALUES (t.id($$s$$), $$r$$, $$n$$, 9)');
UPDATE sessions SET ended_us = 3, state = 'ended';
INSERT INTO holds (id, session_id, reason, by_name, made_us) VALUES (t.id('h'), t.id('s'), 'case 7', 'carol', 4);
SELECT t.refused('SPD33', 'INSERT INTO deletions (session_id, rule, by_name, decided_us) VALUES (t.id($$s$$), $$r$$, $$n$$, 9)');
SELECT t.refused('42501', 'UPDATE holds SET reason = $$x$$');
SELECT t.refused('42501', 'DELETE FROM holds');
SELECT t.refused('23514', 'UPDATE holds SET released_by = $$carol$$');
UPDATE holds SET logged = 1;
SELECT t.refused('SPD31', 'UPDATE holds SET logged = 0');
UPDATE holds SET released_by = 'carol', released_us = 6;
UPDATE holds SET logged = 2;
SELECT t.refused('SPD31', 'UPDATE holds SET released_us = 7');
SELECT t.refused('SPD31', 'UPDATE holds SET released_by = NULL, released_us = NULL');
INSERT INTO deletions (session_id, rule, by_name, decided_us) VALUES (t.id('s'), 'r', 'n', 9);
SELECT t.refused('SPD32', 'INSERT INTO holds (id, session_id, reason, by_name, made_us)
    VALUES (t.id($$h2$$), t.id($$s$$), $$late$$, $$carol$$, 4)');
SELECT t.refused('42501', 'UPDATE deletions SET rule = $$x$$');
SELECT t.refused('42501', 'DELETE FROM deletions');
UPDATE deletions SET done_us = 10;
RESET ROLE;
SET ROLE sallyport_owner;
SELECT t.refused('SPD01', 'DELETE FROM sallyport.holds');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.deletions');
SELECT t.refused('SPD01', 'DELETE FROM sallyport.shipments');
SELECT t.refused('SPD02', 'UPDATE sallyport.holds SET reason = $$x$$');
SELECT t.refused('SPD02', 'UPDATE sallyport.deletions SET rule = $$x$$');
SELECT t.refused('SPD02', 'UPDATE sallyport.shipments SET node = $$m$$');
