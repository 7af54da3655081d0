"""Prints every file below a directory, one a line: all that a layer of an image keeps of it."""
import hashlib, os, stat, sys

root = os.fsencode(sys.argv[1])
# What a running guest shows of itself.
own = {b"/proc", b"/sys", b"/dev"} | {b"/etc/" + name for name in (b"hosts", b"hostname", b"resolv.conf", b"machine-id")}
first = {}

def content(path, status):
    if stat.S_ISLNK(status.st_mode):
        return repr(os.readlink(path))
    if stat.S_ISREG(status.st_mode):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return f"{status.st_size} {digest.hexdigest()[:16]}"
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return ""

def show(path, name):
    status = os.lstat(path)
    if name in own or stat.S_ISSOCK(status.st_mode):
        return
    same = ""
    if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
        same = repr(first.setdefault((status.st_dev, status.st_ino), name))
    attributes = {}
    for attribute in sorted(os.listxattr(path, follow_symlinks=False)):
        if attribute.startswith(("user.", "system.posix_acl_")) or attribute == "security.capability":
            attributes[attribute] = os.getxattr(path, attribute, follow_symlinks=False).hex()
    print(repr(name), oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, content(path, status), same, attributes)
    if stat.S_ISDIR(status.st_mode):
        for child in sorted(os.listdir(path)):
            show(path.rstrip(b"/") + b"/" + child, name.rstrip(b"/") + b"/" + child)

show(root, b"/")
