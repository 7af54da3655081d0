"""Changes files in all the ways that a shell has no words for."""
import os, socket, struct

def mode(path, mode, uid=0, gid=0):
    os.chown(path, uid, gid, follow_symlinks=False)
    os.chmod(path, mode)

def write(path, text="content"):
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())

os.makedirs("/made/" + "deep/" * 40)
write("/made/" + "deep/" * 40 + "file")
for name in [b"new\nline", b"not utf-8 \xff\xfe", b"a=b", b"-rf", b" ", b"wh.x", b"..x", b"x" * 255]:
    write(b"/made/" + name, name)

# Owners and modes.
write("/made/owned")
mode("/made/owned", 0o640, 3_000_000, 4_000_000_000)
write("/made/rights")
mode("/made/rights", 0o6751, 1000, 1000)
mode("/usr/bin/env", 0o700, 33, 33)

# Extended attributes: users' own, a capability, an access control list.
write("/made/attributes")
os.setxattr("/made/attributes", "user.bytes", b"\0=\n\xff")
os.setxattr("/made/attributes", "user.empty", b"")
os.setxattr("/made/attributes", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
entries = [(0x01, 6, -1), (0x02, 4, 1000), (0x04, 4, -1), (0x10, 4, -1), (0x20, 0, -1)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
os.setxattr("/made/attributes", "system.posix_acl_access", acl)
os.mkdir("/made/inherited")
os.setxattr("/made/inherited", "system.posix_acl_default", acl)
os.setxattr("/usr/bin/ls", "user.on", b"a file of the image")

# Links and other kinds of files. (A link to a file of the image shows another number than the file, in an overlay.)
os.link("/made/owned", "/opt/linked")
os.symlink("nowhere/" * 40, "/made/dangling")
os.chown("/made/dangling", 5, 6, follow_symlinks=False)
os.mkfifo("/made/fifo")
os.mknod("/made/null", 0o666 | 0o020000, os.makedev(1, 3))
os.mknod("/made/loop", 0o600 | 0o060000, os.makedev(259, 1_000_000))
for place in ["/made/socket", "/etc/issue.net"]:
    if os.path.exists(place):
        os.remove(place)
    socket.socket(socket.AF_UNIX).bind(place)

# Data with holes, at both ends and none.
with open("/made/sparse", "wb") as file:
    file.truncate(64 << 20)
    for place in [1 << 20, 40 << 20]:
        file.seek(place)
        file.write(b"in the middle of nothing")
with open("/made/hole", "wb") as file:
    file.truncate(5_000_000)

# Times, last.
os.utime("/made/owned", ns=(0, 981_173_106_123_456_789))
os.utime("/made/rights", ns=(0, -500_000_000))
os.utime("/made/fifo", ns=(0, 5_000_000_000 * 10**9))
os.utime("/made", ns=(0, 10**18 + 1))
