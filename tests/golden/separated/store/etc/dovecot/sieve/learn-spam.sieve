# A user has moved or copied a message into Junk: the filter learns it as spam.
# Runs for IMAP only (RFC 6785): what Sieve files at delivery teaches nothing.
require ["copy", "environment", "imapsieve", "variables", "vnd.dovecot.pipe"];

if environment :matches "imap.user" "*" {
    pipe :copy "learn" ["take", "spam", "${1}"];
}
