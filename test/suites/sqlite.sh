#!/bin/sh
# SQLite's shell: a database in a file, with indices, triggers, windows.
set -eu

sqlite3 base.db <<'quit'
pragma journal_mode = wal;
create table t (id integer primary key, n integer, x real, s text);
create index t_s on t (s);
create table log (id integer, was real, is_now real);
create trigger t_x after update of x on t
begin
	insert into log values (new.id, old.x, new.x);
end;
begin;
with recursive c (i) as (select 1 union all select i + 1 from c where i < 20000)
insert into t select i, i * 7919 % 10007, i / 7.0, printf('%05x', i * 7919)
	from c;
commit;
update t set x = sqrt(x) * n where n % 5 = 0;
delete from t where id % 11 = 3;
vacuum;
select count(*), sum(n), total(x), avg(x), min(s), max(s) from t;
select n % 10, count(*), printf('%.12e', sum(x)) from t group by 1 order by 1;
select id, x, sum(x) over (order by id rows 3 preceding) from t
	order by x desc limit 12;
select count(*), printf('%.12e', sum(is_now - was)) from log;
select a.id, b.id from t a join t b on a.s = b.s where a.id < 40;
select sin(x), exp(1 / (1 + x)), pow(x, 0.3), x / 3, round(x, 2) from t
	limit 20;
pragma integrity_check;
quit
sqlite3 base.db .dump | sha256sum
