-- SPDX-License-Identifier: Apache-2.0
SELECT t.people();
SET ROLE sallyport_broker;
SET search_path = sallyport;
-- A row of before is open; one that is shut stays what it is otherwise.
INSERT INTO accounts VALUES (t.id('off'), 1, t.seal(), t.id('core'), 'off', 1, NULL);
UPDATE accounts SET disabled = true, ver = 2 WHERE id = t.id('off');
SELECT t.refused('42501', 'UPDATE accounts SET name = $$on$$ WHERE id = t.id($$off$$)');
UPDATE accounts SET disabled = NULL, ver = 3 WHERE id = t.id('off');
