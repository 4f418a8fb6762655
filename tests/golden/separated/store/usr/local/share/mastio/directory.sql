-- The accounts directory, made when it is missing. Readers (Dovecot, Postfix) need no write access:
-- hence the rollback journal and not a write-ahead log.
PRAGMA journal_mode = DELETE;
PRAGMA foreign_keys = ON;
BEGIN;
CREATE TABLE IF NOT EXISTS domain (
  name      TEXT PRIMARY KEY,             -- lower case, A-labels (RFC 5890)
  catch_all TEXT NOT NULL DEFAULT ''      -- who gets mail to unknown addresses
);
CREATE TABLE IF NOT EXISTS account (
  address   TEXT PRIMARY KEY,
  domain    TEXT NOT NULL REFERENCES domain(name) ON DELETE RESTRICT,
  name      TEXT NOT NULL DEFAULT '',
  password  TEXT NOT NULL,                -- {ARGON2ID}$argon2id$…
  quota_mib INTEGER,                      -- NULL: the site's default
  enabled   INTEGER NOT NULL DEFAULT 1,   -- 0: no login, and its mail is refused
  keep_copy INTEGER NOT NULL DEFAULT 1    -- with forwards: keep the mail here too
);
CREATE TABLE IF NOT EXISTS forward (
  address   TEXT NOT NULL REFERENCES account(address) ON DELETE CASCADE,
  target    TEXT NOT NULL,
  PRIMARY KEY (address, target)
);
CREATE TABLE IF NOT EXISTS alias (
  address   TEXT NOT NULL,
  domain    TEXT NOT NULL REFERENCES domain(name) ON DELETE RESTRICT,
  target    TEXT NOT NULL,
  PRIMARY KEY (address, target)
);
PRAGMA user_version = 1;
COMMIT;
