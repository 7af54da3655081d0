# Drives the machine's virtio devices with garbage, as a driver that means harm would: random bytes in the configuration
# space and in the registers, and rings in memory whose descriptors are random. The layout is that of "Virtual I/O Device
# (VIRTIO) Version 1.1", 4.1.4, and of where QEMU puts it: common configuration at 0 of the fourth region, notification at
# 0x3000.
use strict;
use warnings;

my ($reset, $configuration, $registers, $rings) = @ARGV;
pipe(my $from, my $to) or die "pipe: $!";

# read(2) into an address is a write to it.
sub store {
    my ($address, $bytes) = @_;
    syswrite($to, $bytes);
    syscall(0, fileno $from, $address, length $bytes);
}
sub noise { my ($length) = @_; join '', map { chr int rand 256 } 1 .. $length }
sub map_shared {
    my ($handle, $length) = @_;
    my $address = syscall(9, 0, $length, 3, 1, fileno $handle, 0);
    return $address > 0 ? $address : undef;
}

# Memory of our own whose physical address is known: two pages, one for each half of a ring.
my @pages;
for (1 .. 3) {
    my $page = syscall(9, 0, 4096, 3, 0x8022, -1, 0);
    store($page, noise(4096));
    open(my $map, '<', '/proc/self/pagemap') or die "pagemap: $!";
    binmode $map;
    sysseek($map, ($page >> 12) * 8, 0);
    sysread($map, my $entry, 8);
    push @pages, [$page, (unpack('Q', $entry) & ((1 << 55) - 1)) << 12];
}

# A ring of one request whose descriptors are random, but seldom so wrong that the first look refuses them.
sub write_ring {
    my $table = '';
    for (1 .. 128) {
        my $address = rand() < 0.5 ? int(rand(1 << 28)) : $pages[int rand 3][1];
        $address = int(rand(2**52)) if rand() < 0.1;
        my $length = rand() < 0.2 ? int(rand(2**32)) : int rand 5000;
        $table .= pack('QLSS', $address, $length, int(rand 8), int rand(rand() < 0.9 ? 128 : 65536));
    }
    store($pages[0][0], $table);
    my $count = rand() < 0.8 ? 1 + int rand 8 : int rand 65536;
    store($pages[1][0], pack('SSS*', int rand 2, $count, map { int rand(rand() < 0.9 ? 128 : 65536) } 1 .. 64));
}

sub drive {
    my ($common, $rounds) = @_;
    for (1 .. $rounds) {
        store($common + 20, "\0") if $reset;
        for my $status (1, 3) { store($common + 20, chr $status) }
        for my $select (0, 1) {
            store($common + 8, pack 'L', $select);
            store($common + 12, $select ? pack('L', 1) : noise(4));
        }
        store($common + 20, chr 11);
        for my $queue (0 .. 3) {
            write_ring();
            store($common + 22, pack 'S', $queue);
            store($common + 24, pack 'S', 128);
            for my $part (0 .. 2) {
                my $address = rand() < 0.05 ? int(rand(2**48)) : $pages[$part][1];
                store($common + 32 + 8 * $part, pack 'L', $address & 0xffffffff);
                store($common + 36 + 8 * $part, pack 'L', $address >> 32);
            }
            store($common + 28, pack 'S', 1);
        }
        store($common + 20, chr 15);
        store($common + 0x3000 + 4 * int(rand 5), pack 'S', int rand 4) for 1 .. 8;
        store($common + 0x2000 + int rand 64, noise(1));
    }
}

sub is_serial { my @ports = glob "$_[0]/virtio*/virtio-ports"; return scalar @ports }
sub is_virtio { open(my $file, '<', "$_[0]/vendor") or return; return <$file> =~ /1af4/ }
my @devices = grep { is_virtio($_) } glob '/sys/bus/pci/devices/*';
# The one that we are spoken to through comes last.
@devices = sort { is_serial($a) <=> is_serial($b) } @devices;
$| = 1;
print scalar(@devices), " devices\n";
for my $device (@devices) {
    print "$device\n";
    if ($configuration && open(my $file, '+<', "$device/config")) {
        for (1 .. $configuration) { sysseek($file, 4 + int rand 252, 0); syswrite($file, noise(1)) }
        # Memory, ports and bus mastering on again, or nothing else reaches the device.
        sysseek($file, 4, 0);
        syswrite($file, "\x07\x00");
    }
    # The kernel lets nobody map the registers of a device that has a driver.
    if (($registers || $rings) && open(my $file, '>', "$device/driver/unbind")) {
        my ($name) = $device =~ m{([^/]+)$};
        syswrite($file, $name);
        open(my $enable, '>', "$device/enable");
        syswrite($enable, '1');
        open(my $config, '+<', "$device/config");
        sysseek($config, 4, 0);
        syswrite($config, "\x07\x00");
    }
    for my $region (grep { /resource\d$/ } glob "$device/resource*") {
        open(my $file, '+<', $region) or next;
        my $size = -s $file;
        my $address = map_shared($file, $size) or next;
        print "  $region\n";
        for (1 .. $registers) { store($address + 4 * int(rand $size / 4), noise(4)) }
        drive($address, $rings) if $region =~ /4$/ && $rings;
    }
}
print "done\n";
