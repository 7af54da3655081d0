//! Another machine: a network namespace with a web server and a name server, beside one in which a test runs.

use microagent_tests::{Invocation, World};

/// In a network of its own, with another machine beside it: a name server and a web server.
const ELSEWHERE: &str = r#"
set -e
ip link set lo up
unshare --net --pid --fork --kill-child sh -c '
    until ip link show far >/dev/null 2>&1; do sleep 0.02; done
    ip link set lo up; ip addr add 198.51.100.7/24 dev far; ip addr add 2001:db8::7/64 dev far nodad; ip link set far up
    mkdir -p "$0/www"; echo elsewhere > "$0/www/index.html"
    perl -MIO::Socket::INET -e "$1" &
    exec busybox httpd -f -p "[::]:80" -h "$0/www"' "$1" "$2" >/dev/null 2>&1 &
far=$!
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
ip link add near type veth peer name far netns $far
ip addr add 198.51.100.1/24 dev near; ip addr add 2001:db8::1/64 dev near nodad; ip link set near up
ip -6 route add default via 2001:db8::7
echo "0 2147483647" > /proc/sys/net/ipv4/ping_group_range
shift 2
set +e
"$@"; code=$?
kill -KILL $far
exit $code
"#;

/// A name server for which every name has the address 198.51.100.7, but for those that begin with `a` and an address
/// with `-` for dots: they have that one. `alias.*` is another name of `web.evil.test`. Over TCP it answers, too.
const NAMES: &str = r#"
sub reply {
    my $query = shift;
    my $end = index($query, "\0", 12) + 5;
    my $found = substr($query, $end - 4, 2) eq "\0\1";
    my $first = substr($query, 13, ord(substr($query, 12, 1)));
    my $address = $first =~ /^a(\d+)-(\d+)-(\d+)-(\d+)$/ ? pack("C4", $1, $2, $3, $4) : "\xc6\x33\x64\x07";
    my $alias = $first eq "alias" ? "\3web\4evil\4test\0" : "";
    my $records = ($found ? 1 : 0) + ($alias ? 1 : 0);
    my $reply = substr($query, 0, 2) . "\x81\x80\0\1\0" . chr($records) . "\0\0\0\0" . substr($query, 12, $end - 12);
    $reply .= "\xc0\x0c\0\5\0\1\0\0\0\5" . pack("n", length $alias) . $alias if $alias;
    my $owner = $alias ? $alias : "\xc0\x0c";
    $reply .= "$owner\0\1\0\1\0\0\0\5\0\4$address" if $found;
    return $reply;
}
unless (fork) {
    my $listener = IO::Socket::INET->new(LocalAddr => "198.51.100.7", LocalPort => 53, Listen => 9) or die;
    while (my $client = $listener->accept) {
        while (read($client, my $length, 2) == 2) {
            read($client, my $query, unpack("n", $length));
            my $reply = reply($query);
            print $client pack("n", length $reply), $reply;
            $client->flush;
        }
    }
}
my $socket = IO::Socket::INET->new(LocalAddr => "198.51.100.7", LocalPort => 53, Proto => "udp") or die;
while (defined $socket->recv(my $query, 512)) { $socket->send(reply($query)) }
"#;

/// The same call in a network of its own, with another machine beside it, 198.51.100.7 and `2001:db8::7`.
pub(crate) fn elsewhere(world: &World, invocation: Invocation) -> Invocation {
    let directory = world.path().display().to_string();
    invocation.through(&["unshare", "-n", "sh", "-c", ELSEWHERE, "sh", &directory, NAMES])
}
