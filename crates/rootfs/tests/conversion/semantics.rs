//! What layers do to one another, where the specification is precise and other tools are not.

use erofs::FileType;

use crate::archive::{Archive, Entry, directory, file, hard_link, symlink};
use crate::image::Layers;
use crate::listing::Listing;

fn listing(layers: impl IntoIterator<Item = Vec<Entry>>) -> Listing {
    Layers::of(layers.into_iter().map(Archive::new)).listing()
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.keys().map(String::as_str).collect()
}

#[test]
fn a_whiteout_hides_lower_layers_only_wherever_it_stands() {
    let lower = || vec![directory("d").mode(0o700), file("d/lower", ""), file("f", "lower")];
    let entries = [file(".wh.d", ""), file("d/upper", ""), file(".wh.f", ""), file("f", "upper")];
    for order in [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]] {
        let upper = order.map(|index: usize| entries[index].clone()).to_vec();
        let found = listing([lower(), upper]);
        assert_eq!(names(&found), ["/", "/d", "/d/upper", "/f"], "{order:?}");
        assert_eq!(found["/d"].mode, 0o755, "nothing of the hidden directory is left");
        assert_eq!(found["/f"].size, 5);
    }
}

#[test]
fn an_opaque_directory_hides_what_is_below_it_at_any_depth() {
    let lower =
        || vec![directory("d"), directory("d/e").mode(0o700), file("d/e/lower", ""), file("d/lower", "")];
    let entries = [file("d/.wh..wh..opq", ""), file("d/e/upper", ""), directory("d").mode(0o711)];
    for order in [[0, 1, 2], [1, 2, 0], [2, 1, 0]] {
        let found = listing([lower(), order.map(|index: usize| entries[index].clone()).to_vec()]);
        assert_eq!(names(&found), ["/", "/d", "/d/e", "/d/e/upper"], "{order:?}");
        assert_eq!((found["/d"].mode, found["/d/e"].mode), (0o711, 0o755));
    }
}

#[test]
fn what_only_aufs_understands_is_ignored() {
    let found = listing([vec![
        directory(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "x"),
        file(".wh..wh.aufs", ""),
        file("a", ""),
    ]]);
    assert_eq!(names(&found), ["/", "/a"]);
}

#[test]
fn the_later_of_two_entries_in_a_layer_counts() {
    let found =
        listing([vec![file("a", "1"), file("a", "22"), directory("b"), file("b/x", ""), symlink("b", "a")]]);
    assert_eq!(found["/a"].size, 2);
    assert_eq!(found["/b"].kind, FileType::Symlink);
    assert!(!found.contains_key("/b/x"));
}

#[test]
fn links_on_the_way_are_followed_but_never_out_of_the_root() {
    let found = listing([
        vec![symlink("out", "../../../../etc"), symlink("abs", "/usr/./bin"), symlink("chain", "abs")],
        vec![file("out/passwd", ""), file("chain/tool", ""), file("abs", "replaces the link")],
    ]);
    assert_eq!(
        names(&found),
        ["/", "/abs", "/chain", "/etc", "/etc/passwd", "/out", "/usr", "/usr/bin", "/usr/bin/tool"]
    );
    assert_eq!(found["/abs"].kind, FileType::Regular);
}

#[test]
fn a_hard_link_keeps_a_file_whose_first_name_is_hidden() {
    let found = listing([vec![file("a", "data")], vec![hard_link("b", "a")], vec![file(".wh.a", "")]]);
    assert_eq!(names(&found), ["/", "/b"]);
    assert_eq!((found["/b"].size, found["/b"].links.clone()), (4, Some(("/b".to_owned(), 1))));
}

#[test]
fn attributes_that_would_steer_an_overlay_are_dropped() {
    let entry = file("a", "")
        .xattr("trusted.overlay.opaque", "y")
        .xattr("user.overlay.whiteout", "y")
        .xattr("system.nfs4_acl", "no place for it")
        .xattr("trusted.other", "kept");
    assert_eq!(listing([vec![entry]])["/a"].xattrs, [("trusted.other".to_owned(), b"kept".to_vec())]);
}

#[test]
fn an_image_without_layers_is_an_empty_root() {
    let found = listing([]);
    assert_eq!(names(&found), ["/"]);
    assert_eq!((found["/"].mode, found["/"].owner, found["/"].mtime), (0o755, (0, 0), (0, 0)));
}
