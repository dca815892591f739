-- SPDX-License-Identifier: Apache-2.0
-- Roles, rights on the schema, must_affect.
SELECT t.is(rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls, false, rolname)
    FROM pg_roles WHERE rolname IN ('sallyport_owner', 'sallyport_broker');
SELECT t.is(rolcanlogin, false, 'the owner does not log in') FROM pg_roles
    WHERE rolname = 'sallyport_owner';
-- Everything belongs to the owner; nothing is open to everybody.
SELECT t.is(count(*), 0::bigint, 'tables of others') FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'sallyport' AND pg_get_userbyid(relowner) <> 'sallyport_owner';
SELECT t.is(count(*), 0::bigint, 'functions open to all') FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'sallyport' AND has_function_privilege('public', p.oid, 'EXECUTE');
-- Every function pins its search path, but for those that qualify every name
-- (0017_inline.sql tries them); none runs with its owner's rights.
SELECT t.is(string_agg(proname, ' ' ORDER BY proname), 'audit_links now_us tell_audit', 'functions without a path')
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'sallyport' AND (proconfig IS NULL OR prosecdef);
SELECT t.is(count(*), 0::bigint, 'functions of their owner''s rights') FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'sallyport' AND prosecdef;
SET ROLE sallyport_broker;
SELECT t.refused('42501', 'CREATE TABLE sallyport.x (a int)');
SELECT t.refused('42501', 'CREATE TABLE public.x (a int)');
SELECT t.refused('42501', 'CREATE TEMP TABLE x (a int)');
SELECT t.is(pg_has_role('sallyport_broker', 'sallyport_owner', 'MEMBER'), false, 'SET ROLE');
SELECT t.refused('42501', 'INSERT INTO sallyport.schema_version VALUES (99, $$x$$)');
SELECT t.refused('42501', 'SET session_replication_role = replica');
SELECT t.refused('42501', 'ALTER TABLE sallyport.audit DISABLE TRIGGER ALL');
SELECT t.is(sallyport.must_affect(2, 2), 2::bigint, 'must_affect');
SELECT t.refused('SPS01', 'SELECT sallyport.must_affect(1, 2)');
SELECT t.is(abs(sallyport.now_us() -
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) < 1000000, true, 'now_us');
RESET ROLE;
-- The whole list of what the broker may remove; evidence is not in it.
SELECT t.is(string_agg(relname, ' ' ORDER BY relname),
    'accounts memberships person_keys revoked rotations secrets targets totp', 'DELETE')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'sallyport' AND relkind = 'r' AND
    has_table_privilege('sallyport_broker', c.oid, 'DELETE');
SELECT t.is(count(*), 0::bigint, 'TRUNCATE, REFERENCES, TRIGGER or a whole UPDATE')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'sallyport' AND relkind = 'r' AND
    has_table_privilege('sallyport_broker', c.oid, 'TRUNCATE, REFERENCES, TRIGGER, UPDATE');
SELECT t.is(string_agg(table_name || '.' || column_name, ' '
    ORDER BY table_name, column_name),
    'accounts.disabled accounts.exclusive accounts.kind accounts.password_rule accounts.rotate accounts.seal '
    'accounts.secret_id accounts.sql accounts.ver '
    'break_glass_kits.imported_by break_glass_kits.imported_us break_glass_kits.opened_at '
    'break_glass_kits.opened_by break_glass_kits.opened_why break_glass_kits.review '
    'break_glass_kits.reviewed_by break_glass_kits.reviewed_us break_glass_kits.seal '
    'break_glass_kits.ver decisions.seal decisions.ver '
    'deletions.done_us deletions.error deletions.next_us deletions.tries '
    'grants.ended_by grants.ends_us grants.seal grants.state grants.ver '
    'holds.asked_by holds.asked_us holds.logged holds.released_by holds.released_us '
    'leases.ended_us leases.expires_us leases.state leases.used_us '
    'memberships.seal memberships.ver '
    'people.display people.enabled people.seal people.ver '
    'person_keys.comment person_keys.enabled person_keys.seal person_keys.ver '
    'policies.seal policies.ver '
    'requests.seal requests.shown_us requests.state requests.ver '
    'revoked.seal revoked.ver '
    'rotations.claimed_us rotations.due_us rotations.failures rotations.last_us '
    'rotations.node rotations.seal rotations.state rotations.ver rotations.why '
    'secrets.account_id secrets.kind secrets.made_us secrets.rule secrets.seal secrets.sealed '
    'secrets.state secrets.tag secrets.ver secrets.version '
    'session_roles.database session_roles.due_us session_roles.gone_us session_roles.tries session_roles.why '
    'sessions.bytes_in sessions.bytes_out sessions.chunks sessions.end_code '
    'sessions.ended_us sessions.head sessions.reason sessions.recovered sessions.ship_us sessions.state '
    'shipments.drop_us shipments.error shipments.how shipments.local shipments.sha256 shipments.shipped_us '
    'shipments.size shipments.tries '
    'targets.addr targets.enabled targets.host_keys targets.legacy targets.more_addrs '
    'targets.port targets.reconcile targets.seal targets.sql targets.tags targets.ver targets.via '
    'totp.seal totp.sealed totp.ver '
    'totp_spent.fails totp_spent.last_step totp_spent.locked_until_us totp_spent.version', 'UPDATE')
    FROM information_schema.column_privileges
    WHERE grantee = 'sallyport_broker' AND privilege_type = 'UPDATE';
