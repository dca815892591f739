-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
SELECT t.refused('23514', format('INSERT INTO targets VALUES (t.id(%L), 1, t.seal(), %L, %L, %s, %L, %L, true)',
    'x', 'db-01', '192.0.2.2', p, '', '')) FROM unnest(ARRAY[0, -1, 65536]) p;
SELECT t.refused('23505', 'INSERT INTO targets VALUES (t.id($$x$$), 1, t.seal(), $$core-01$$, $$192.0.2.2$$, 22, $$$$, $$$$, true)');
SELECT t.refused('23505', 'INSERT INTO accounts VALUES (t.id($$x$$), 1, t.seal(), t.id($$core$$), $$root$$, 1, NULL)');
SELECT t.refused('23503', 'INSERT INTO accounts VALUES (t.id($$x$$), 1, t.seal(), t.id($$core$$), $$db$$, 3, t.id($$none$$))');
SELECT t.refused('42501', 'UPDATE accounts SET target_id = t.id($$x$$)');
INSERT INTO secrets VALUES (t.id('s'), 1, t.seal(), t.id('core'), 3, '\x0102');
SELECT t.refused('42501', 'UPDATE secrets SET owner_id = t.id($$x$$)');
UPDATE secrets SET sealed = '\x03', ver = 2;
INSERT INTO policies VALUES (t.id('p'), 1, t.seal(), 1, 'deny all', 'h', 'root@host', 1);
SELECT t.refused('23505', 'INSERT INTO policies VALUES (t.id($$p2$$), 1, t.seal(), 1, $$allow all$$, $$h$$, $$x$$, 1)');
SELECT t.refused('42501', 'UPDATE policies SET body = $$allow all$$');
SELECT t.refused('42501', 'DELETE FROM policies');
DELETE FROM accounts;
DELETE FROM targets;
RESET ROLE;
SET ROLE sallyport_owner;
SELECT t.refused('SPD01', 'UPDATE policies SET body = $$allow all$$');
SELECT t.refused('SPD01', 'DELETE FROM policies');
SELECT t.refused('SPD01', 'TRUNCATE policies');
