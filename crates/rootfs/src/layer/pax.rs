//! What extension headers say of the next entry: pax records and GNU's long names.

use erofs::Timestamp;

use super::LayerError;
use super::number;
use super::sparse::PaxSparse;

/// What replaces or adds to the fields of a header.
#[derive(Debug, Clone, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    /// Full names and values; of two with the same name, the later one counts.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

impl Extensions {
    /// Takes over what the records of a pax header say. An empty value takes back what an earlier one said.
    pub(super) fn apply(&mut self, mut records: &[u8]) -> Result<(), LayerError> {
        while !records.is_empty() {
            let (key, value, rest) =
                split_record(records).ok_or(LayerError::Header("an invalid pax record"))?;
            self.apply_one(key, value).ok_or(LayerError::Header("an invalid value in a pax record"))?;
            records = rest;
        }
        Ok(())
    }

    fn apply_one(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Some(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.apply(key, value);
        }
        match key {
            b"path" => self.path = Some(value.to_vec()).filter(|path| !path.is_empty()),
            b"linkpath" => self.link = Some(value.to_vec()).filter(|link| !link.is_empty()),
            b"size" => set(&mut self.size, value, number::decimal)?,
            b"uid" => set(&mut self.uid, value, number::decimal)?,
            b"gid" => set(&mut self.gid, value, number::decimal)?,
            b"mtime" => set(&mut self.mtime, value, number::timestamp)?,
            _ => {}
        }
        Some(())
    }
}

fn set<T>(field: &mut Option<T>, value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Option<()> {
    *field = if value.is_empty() { None } else { Some(parse(value)?) };
    Some(())
}

/// Splits `LENGTH KEY=VALUE\n` off, whose length is that of the whole record.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(number::decimal(&records[..space])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_any_bytes() {
        let mut found = Extensions::default();
        found.apply(b"12 path=a\nb\n28 SCHILY.xattr.user.k=\0=\n\xff\n11 mtime=5\n").unwrap();
        assert_eq!(found.path.unwrap(), b"a\nb");
        assert_eq!(found.xattrs, [(b"user.k".to_vec(), b"\0=\n\xff".to_vec())]);
        assert_eq!(found.mtime.unwrap().seconds, 5);
    }

    #[test]
    fn damaged_records_are_refused() {
        let bad = [
            "6 path",
            "99 path=a\n",
            "0 path=a\n",
            "2 path=a\n",
            "x path=a\n",
            "10 path=aa",
            "9 =abcdef\n",
            "10 size=-1\n",
        ];
        for text in bad {
            assert!(Extensions::default().apply(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
