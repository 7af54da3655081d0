//! Which images workspaces are made from: their layers are what a workspace's changes are changes of.

use std::collections::BTreeMap;

use home::{Home, Name};
use image::Digest;

use crate::disk_use::DiskUseError;
use crate::workspace::Workspace;

/// The workspaces of each image, by its manifest. A workspace that cannot be read is an error: what it needs is not known.
pub fn image_users(home: &Home) -> Result<BTreeMap<Digest, Vec<Name>>, DiskUseError> {
    let mut users: BTreeMap<Digest, Vec<Name>> = BTreeMap::new();
    for (name, found) in Workspace::all(home)? {
        let workspace = found.map_err(|error| DiskUseError::Damaged(name.clone(), Box::new(error)))?;
        // A record of ours has a digest; anything else is of no image.
        if let Ok(digest) = workspace.record().image_digest.parse() {
            users.entry(digest).or_default().push(name);
        }
    }
    Ok(users)
}
