-- SPDX-License-Identifier: Apache-2.0
SET ROLE sallyport_broker;
SET search_path = sallyport;
INSERT INTO audit (node, seq, at_us, event, actor, prev, hash, rows) VALUES ('n', 1, 1, 'e', 'a',
    decode(repeat('00', 32), 'hex'), decode(repeat('11', 32), 'hex'), '[]');
SELECT t.refused('42501', 'UPDATE audit SET rows = NULL');
RESET ROLE;
SET ROLE sallyport_owner;
SELECT t.refused('SPD01', 'UPDATE sallyport.audit SET rows = NULL');
