//! An image with servers that people run: nginx, Redis and sshd, from the distribution's packages.

use std::path::Path;

use home::Exclusive;

use crate::tool::{succeed, tool};

const PACKAGES: &str = "--include=nginx-light,redis-server,openssh-server";

/// A Debian with these servers as a tar, made once and kept in `cache`.
pub(crate) fn services(cache: &Path) -> Vec<u8> {
    let archive = cache.join("services.tar");
    let _making = Exclusive::wait(&cache.join("services.lock")).expect("a lock can be taken");
    if !archive.exists() {
        let new = cache.join("services.new.tar");
        let mut command = tool("mmdebstrap", "mmdebstrap");
        command.args(["--quiet", "--format=tar", "--variant=minbase", PACKAGES, "bookworm"]);
        succeed(command.arg(&new));
        fs_err::rename(new, &archive).expect("the archive can be renamed");
    }
    fs_err::read(archive).expect("the archive can be read")
}
