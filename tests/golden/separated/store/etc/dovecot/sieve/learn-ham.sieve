# A user has taken a message out of Junk: the filter learns it as ham. Not when it went to the Trash (spam
# that is thrown away), or stayed in Junk.
# Runs for IMAP only (RFC 6785): what Sieve files at delivery teaches nothing.
require ["copy", "environment", "imapsieve", "variables", "vnd.dovecot.pipe"];

if environment :matches "imap.mailbox" ["Trash", "Trash/*", "Junk", "Junk/*"] {
    stop;
}
if environment :matches "imap.user" "*" {
    pipe :copy "learn" ["take", "ham", "${1}"];
}
