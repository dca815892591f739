-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
-- A row of before is a row of now.
INSERT INTO targets VALUES (t.id('x'), 1, t.seal(), 'db-01', '192.0.2.2', 22, '', '', true);
UPDATE targets SET more_addrs = '[::1]:22', legacy = true, ver = 2 WHERE id = t.id('x');
SELECT t.refused('23514', 'UPDATE targets SET more_addrs = $$$$ WHERE id = t.id($$x$$)');
SELECT t.refused('23514', 'UPDATE targets SET more_addrs = repeat($$a$$, 601) WHERE id = t.id($$x$$)');
-- The way leads over an account that is there, and stays as long as it is the way.
SELECT t.refused('23503', 'UPDATE targets SET via = t.id($$none$$) WHERE id = t.id($$x$$)');
INSERT INTO accounts VALUES (t.id('hop'), 1, t.seal(), t.id('core'), 'hop', 1, NULL);
UPDATE targets SET via = t.id('hop'), ver = 3 WHERE id = t.id('x');
SELECT t.refused('23503', 'DELETE FROM accounts WHERE id = t.id($$hop$$)');
UPDATE targets SET via = NULL, ver = 4 WHERE id = t.id('x');
DELETE FROM accounts WHERE id = t.id('hop');
