//! Who a process runs as: names and numbers, looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are Docker's: `user`, `uid`, `user:group`, with either part a name or a number; a number needs
//! no entry; without a group it is the user's own, else 0, and the groups that list the user are added.

use std::path::Path;

/// What `user` means in this image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: Vec<u8>,
    /// As the image's `/etc/passwd` has it; empty if it has none.
    pub(crate) shell: Vec<u8>,
}

/// Looks up `user` under `etc`; an empty one is root.
pub(crate) fn look_up(user: &str, etc: &Path) -> Result<Account, String> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let passwd = read_table(&etc.join("passwd"));
    let groups = read_table(&etc.join("group"));

    let entry = find(&passwd, user, 2);
    let uid = number(entry.as_ref(), 2).or_else(|| user.parse().ok());
    let uid = uid.ok_or_else(|| format!("the image has no user `{user}` in its /etc/passwd"))?;
    let own_gid = number(entry.as_ref(), 3).unwrap_or(0);
    let gid = match group.filter(|group| !group.is_empty()) {
        None => own_gid,
        Some(group) => number(find(&groups, group, 2).as_ref(), 2)
            .or_else(|| group.parse().ok())
            .ok_or_else(|| format!("the image has no group `{group}` in its /etc/group"))?,
    };
    let listed = match (group, &entry) {
        (None, Some(entry)) => groups_of(&groups, entry[0]),
        _ => Vec::new(),
    };
    let home = entry.as_ref().and_then(|entry| entry.get(5)).filter(|home| !home.is_empty());
    let shell = entry.as_ref().and_then(|entry| entry.get(6)).map_or(Vec::new(), |shell| shell.to_vec());
    Ok(Account { uid, gid, groups: listed, home: home.map_or(b"/".to_vec(), |home| home.to_vec()), shell })
}

/// An account file's text; it is the image's, so a huge one is cut.
fn read_table(path: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What could not be read has no entries.
        let _ = file.take(4 << 20).read_to_end(&mut text);
    }
    text
}

fn entries(table: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    table.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':').collect())
}

/// The entry called `key`, or else the one whose number, in the given column, is `key`.
fn find<'a>(table: &'a [u8], key: &str, column: usize) -> Option<Vec<&'a [u8]>> {
    let named = entries(table).find(|entry| entry[0] == key.as_bytes() && entry.len() > column);
    named.or_else(|| {
        let wanted: u32 = key.parse().ok()?;
        entries(table).find(|entry| parse(entry.get(column)) == Some(wanted))
    })
}

fn groups_of(table: &[u8], user: &[u8]) -> Vec<u32> {
    let lists = |entry: &Vec<&[u8]>| {
        entry.get(3).is_some_and(|members| members.split(|byte| *byte == b',').any(|member| member == user))
    };
    entries(table).filter(lists).filter_map(|entry| parse(entry.get(2))).collect()
}

fn number(entry: Option<&Vec<&[u8]>>, column: usize) -> Option<u32> {
    parse(entry?.get(column))
}

fn parse(field: Option<&&[u8]>) -> Option<u32> {
    std::str::from_utf8(field?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc() -> tempfile::TempDir {
        let etc = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbroken\n";
        std::fs::write(etc.path().join("passwd"), passwd).unwrap();
        let group = "root:x:0:\nwww:x:34:\naudio:x:29:web,root\nvideo:x:44:other,web\n";
        std::fs::write(etc.path().join("group"), group).unwrap();
        etc
    }

    fn account(uid: u32, gid: u32, groups: &[u32], home: &str) -> Account {
        let shell = if home == "/" { Vec::new() } else { b"/bin/sh".to_vec() };
        Account { uid, gid, groups: groups.to_vec(), home: home.into(), shell }
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let etc = etc();
        let look = |user| look_up(user, etc.path());
        assert_eq!(look(""), Ok(account(0, 0, &[29], "/root")));
        assert_eq!(look("web"), Ok(account(33, 34, &[29, 44], "/srv")));
        assert_eq!(look("33"), Ok(account(33, 34, &[29, 44], "/srv")));
        assert_eq!(look("web:audio"), Ok(account(33, 29, &[], "/srv")));
        assert_eq!(look("4000"), Ok(account(4000, 0, &[], "/")));
        assert_eq!(look("4000:4001"), Ok(account(4000, 4001, &[], "/")));
        assert!(look("nobody").unwrap_err().contains("nobody"));
        assert!(look("web:nogroup").unwrap_err().contains("nogroup"));
    }

    #[test]
    fn an_image_without_accounts_has_root() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(look_up("", empty.path()), Ok(account(0, 0, &[], "/")));
        assert_eq!(look_up("5:6", empty.path()), Ok(account(5, 6, &[], "/")));
    }
}
