-- SPDX-License-Identifier: Apache-2.0
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO revoked VALUES (t.id('r1'), 1, t.seal(), 'serial', '7', '', 'carol', 1, 2);
INSERT INTO revoked VALUES (t.id('r2'), 1, t.seal(), 'ca', 'ssh-ed25519 AAAA', '', 'carol', 1, NULL);
-- Twice says nothing more.
SELECT t.refused('23505', 'INSERT INTO revoked VALUES (t.id($$r3$$), 1, t.seal(), $$serial$$, $$7$$, $$$$, $$x$$, 1, 2)');
-- A CA does not expire, and a serial does.
SELECT t.refused('23514', 'INSERT INTO revoked VALUES (t.id($$r4$$), 1, t.seal(), $$ca$$, $$k$$, $$$$, $$x$$, 1, 2)');
SELECT t.refused('23514', 'INSERT INTO revoked VALUES (t.id($$r5$$), 1, t.seal(), $$serial$$, $$8$$, $$$$, $$x$$, 1, NULL)');
SELECT t.refused('23514', 'INSERT INTO revoked VALUES (t.id($$r6$$), 1, t.seal(), $$key$$, $$8$$, $$$$, $$x$$, 1, 2)');
SELECT t.refused('23514', 'INSERT INTO revoked VALUES (t.id($$r7$$), 1, t.seal(), $$serial$$, $$8$$, $$$$, $$x$$, 2, 2)');
-- It is never another one; it can be taken off.
SELECT t.refused('42501', 'UPDATE revoked SET value = $$9$$ WHERE id = t.id($$r1$$)');
SELECT t.refused('42501', 'TRUNCATE revoked');
DELETE FROM revoked WHERE id = t.id('r1');
RESET ROLE;
SELECT t.refused('SPD01', 'UPDATE sallyport.revoked SET value = $$9$$ WHERE id = t.id($$r2$$)');
