-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
-- A row of before rotation, and versions.
INSERT INTO secrets VALUES (t.id('s0'), 1, t.seal(), t.id('core'), 3, '\x01');
INSERT INTO secrets VALUES (t.id('s1'), 1, t.seal(), t.id('core'), 3, '\x01',
    t.id('root'), 1, 'current', 5, decode(repeat('00', 32), 'hex'));
-- One in use, one candidate, each version once.
SELECT t.refused('23505', $q$INSERT INTO secrets VALUES (t.id('s2'), 1, t.seal(),
    t.id('core'), 3, '\x01', t.id('root'), 2, 'current', 5)$q$);
SELECT t.refused('23505', $q$INSERT INTO secrets VALUES (t.id('s2'), 1, t.seal(),
    t.id('core'), 3, '\x01', t.id('root'), 1, 'previous', 5)$q$);
INSERT INTO secrets VALUES (t.id('s2'), 1, t.seal(), t.id('core'), 3, '\x01',
    t.id('root'), 2, 'pending', 5);
SELECT t.refused('23505', $q$INSERT INTO secrets VALUES (t.id('s3'), 1, t.seal(),
    t.id('core'), 3, '\x01', t.id('root'), 3, 'pending', 5)$q$);
SELECT t.refused('23514', $q$INSERT INTO secrets VALUES (t.id('s3'), 1, t.seal(),
    t.id('core'), 3, '\x01', t.id('root'), 3, 'other', 5)$q$);
-- A version stays what it is; its state moves.
SELECT t.refused('SPD22', $q$UPDATE secrets SET version = 9 WHERE id = t.id('s2')$q$);
SELECT t.refused('SPD22', $q$UPDATE secrets SET kind = 2 WHERE id = t.id('s2')$q$);
SELECT t.refused('SPD22', $q$UPDATE secrets SET account_id = t.id('x') WHERE id = t.id('s2')$q$);
UPDATE secrets SET state = 'previous', ver = 2 WHERE id = t.id('s1');
UPDATE secrets SET state = 'current', ver = 2 WHERE id = t.id('s2');
UPDATE secrets SET state = 'previous', version = 1, account_id = t.id('old'), ver = 2
    WHERE id = t.id('s0');
-- What is due.
INSERT INTO rotations VALUES (t.id('root'), 1, t.seal(), 'idle', 'every 30d', 7, NULL, 0, NULL, NULL);
SELECT t.refused('23505', $q$INSERT INTO rotations VALUES (t.id('root'), 1, t.seal(), 'idle', '', 7, NULL, 0, NULL, NULL)$q$);
SELECT t.refused('23514', $q$UPDATE rotations SET state = 'done'$q$);
SELECT t.refused('23514', $q$UPDATE rotations SET failures = -1$q$);
SELECT t.refused('42501', $q$UPDATE rotations SET id = t.id('x')$q$);
UPDATE rotations SET state = 'running', node = 'n', claimed_us = 1, ver = 2;
UPDATE accounts SET rotate = 'after-use 30d', password_rule = 'length=20', ver = 2 WHERE id = t.id('root');
SELECT t.refused('23514', $q$UPDATE accounts SET rotate = '' WHERE id = t.id('root')$q$);
UPDATE targets SET reconcile = t.id('root'), ver = 2 WHERE id = t.id('core');
SELECT t.refused('23503', $q$UPDATE targets SET reconcile = t.id('none') WHERE id = t.id('core')$q$);
