"""A queue's files have come from another machine: Postfix takes them for its own.

Their names must be those of their inodes (postsuper(1), -s). And a store's say by which gateway they go, as it was
called when they came (postconf(5), content_filter): they are queued anew (-r), by which they hear who it is today. What
an administrator has yet to look at would be on its way then, so it is held again in the same breath, by a cleanup(8)
of its own that holds everything.
"""

from mastio.instances import Instance
from mastio.moving.shut import do
from mastio.transport import Transport

_NAMES = "postsuper -c $1 -s"
_ANEW = """
postsuper -c $1 -s
if [ -n "$(find $2/hold -type f)" ]; then
    cp -p $1/master.cf $1/master.cf.moved
    trap 'postfix -c $1 stop 2>/dev/null || true; mv $1/master.cf.moved $1/master.cf' EXIT
    postconf -c $1 -M 'holding/unix=holding unix n - n - 0 cleanup -o { header_checks = regexp:{ { /./ HOLD } } }'
    postconf -c $1 -P pickup/unix/cleanup_service_name=holding
    # Nothing comes in but what is in the queue.
    postconf -c $1 -M -X $(postconf -c $1 -M | awk '$2 == "inet" { print $1 "/inet" }') || true
    postsuper -c $1 -r ALL hold
    postfix -c $1 start
    n=0
    while [ -n "$(find $2/maildrop -type f)" ]; do
        n=$((n + 1)); [ $n -lt 600 ] || { echo 'what was held is not taken up' >&2; exit 1; }
        sleep 0.1
    done
    sleep 0.5
    postfix -c $1 stop
fi
postsuper -c $1 -r ALL incoming active deferred
"""


def taken_up(way: Transport, machine: str, postfix: Instance, *, anew: bool) -> None:
    """While `postfix` stands still. `anew`: they shall go where its configuration says today."""
    do(way, machine, _ANEW if anew else _NAMES, postfix.config, postfix.queue)
