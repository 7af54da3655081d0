//! Random layers do what a simple model says: all whiteouts of a layer first, then its entries in order.

use std::collections::BTreeMap;

use erofs::FileType;
use microagent_rootfs::{ConvertError, EntryError, LayerError};
use proptest::prelude::*;

use crate::archive::{Archive, Entry, directory, file, hard_link};
use crate::image::Layers;
use crate::listing::of_image;

#[derive(Debug, Clone)]
enum Step {
    Directory(Vec<&'static str>),
    File(Vec<&'static str>),
    Link(Vec<&'static str>, Vec<&'static str>),
    Whiteout(Vec<&'static str>),
    Opaque(Vec<&'static str>),
}

/// A directory with its time, or a file by the number that is also its data.
#[derive(Debug, Clone)]
enum Node {
    Directory(u64, Children),
    File(usize),
}

type Children = BTreeMap<&'static str, Node>;

/// The way leads through a file, or a link to nothing: which, depends on the order of whiteouts.
struct Conflict;

fn path() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(&["a", "b", "c"][..]), 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => path().prop_map(Step::Directory),
        3 => path().prop_map(Step::File),
        1 => (path(), path()).prop_map(|(path, target)| Step::Link(path, target)),
        1 => path().prop_map(Step::Whiteout),
        1 => path().prop_map(Step::Opaque),
    ]
}

fn entry(step: &Step, number: usize) -> Entry {
    match step {
        Step::Directory(path) => directory(path.join("/")).mtime(number as u64 + 1),
        Step::File(path) => file(path.join("/"), number.to_string()),
        Step::Link(path, target) => hard_link(path.join("/"), target.join("/")),
        Step::Whiteout(path) => {
            let (name, way) = path.split_last().unwrap();
            file(format!("{}/.wh.{name}", way.join("/")), "")
        }
        Step::Opaque(path) => file(format!("{}/.wh..wh..opq", path.join("/")), ""),
    }
}

fn find<'n>(mut here: &'n mut Children, path: &[&'static str]) -> Option<&'n mut Children> {
    for name in path {
        match here.get_mut(name) {
            Some(Node::Directory(_, children)) => here = children,
            _ => return None,
        }
    }
    Some(here)
}

fn hide(root: &mut Children, step: &Step) {
    match step {
        Step::Whiteout(path) => {
            let (name, way) = path.split_last().unwrap();
            find(root, way).map(|children| children.remove(name));
        }
        Step::Opaque(path) => {
            find(root, path).map(Children::clear);
        }
        _ => {}
    }
}

fn make_way<'n>(mut here: &'n mut Children, way: &[&'static str]) -> Result<&'n mut Children, Conflict> {
    for name in way {
        match here.entry(name).or_insert_with(|| Node::Directory(0, Children::new())) {
            Node::Directory(_, children) => here = children,
            Node::File(_) => return Err(Conflict),
        }
    }
    Ok(here)
}

fn add(root: &mut Children, step: &Step, number: usize) -> Result<(), Conflict> {
    let (path, node) = match step {
        Step::Directory(path) => (path, Node::Directory(number as u64 + 1, Children::new())),
        Step::File(path) => (path, Node::File(number)),
        Step::Link(path, target) => {
            make_way(root, &path[..path.len() - 1])?;
            let (name, way) = target.split_last().unwrap();
            match find(root, way).and_then(|children| children.get(name)) {
                Some(Node::File(number)) => (path, Node::File(*number)),
                _ => return Err(Conflict),
            }
        }
        Step::Whiteout(_) | Step::Opaque(_) => return Ok(()),
    };
    let (name, way) = path.split_last().unwrap();
    let children = make_way(root, way)?;
    match (children.get_mut(name), node) {
        (Some(Node::Directory(time, _)), Node::Directory(new, _)) => *time = new,
        (_, node) => drop(children.insert(name, node)),
    }
    Ok(())
}

fn apply(layers: &[Vec<Step>]) -> Result<Children, Conflict> {
    let (mut root, mut number) = (Children::new(), 0);
    for layer in layers {
        for step in layer {
            hide(&mut root, step);
        }
        for step in layer {
            add(&mut root, step, number)?;
            number += 1;
        }
    }
    Ok(root)
}

/// Paths with a directory's time, or a file's data and all its names.
fn flatten(path: &str, children: &Children, out: &mut BTreeMap<String, Result<u64, usize>>) {
    for (name, node) in children {
        let path = format!("{path}/{name}");
        match node {
            Node::Directory(time, children) => {
                flatten(&path, children, out);
                out.insert(path, Ok(*time));
            }
            Node::File(number) => drop(out.insert(path, Err(*number))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn layers_do_what_the_model_does(steps in proptest::collection::vec(proptest::collection::vec(step(), 0..8), 1..5)) {
        let mut number = 0..;
        let archives = steps.iter().map(|layer| {
            Archive::new(layer.iter().map(|step| entry(step, number.next().unwrap())))
        });
        let converted = Layers::of(archives).convert();
        let (image, model) = match (converted, apply(&steps)) {
            (Ok(image), Ok(model)) => (image, model),
            (_, Err(Conflict)) => return Ok(()),
            (Err(ConvertError::Layer { source: LayerError::Entry { source, .. }, .. }), Ok(_)) => {
                let is_conflict = matches!(source, EntryError::NotDirectory(_) | EntryError::LinkMissing(_) | EntryError::LinkToDirectory(_));
                prop_assert!(is_conflict, "{source}");
                return Ok(());
            }
            (Err(error), Ok(_)) => panic!("{error}"),
        };
        let mut expected = BTreeMap::new();
        flatten("", &model, &mut expected);
        let found = of_image(image.as_file());
        prop_assert_eq!(found.len(), expected.len() + 1);
        for (path, node) in &expected {
            let seen = &found[path];
            match node {
                Ok(time) => {
                    prop_assert_eq!(seen.kind, FileType::Directory);
                    prop_assert_eq!(seen.mtime.0, time.cast_signed(), "{}", path);
                }
                Err(number) => {
                    let names = expected.values().filter(|other| *other == node).count();
                    prop_assert_eq!(seen.links.as_ref().unwrap().1, names as u64, "{}", path);
                    let data = crate::image::hex(&<sha2::Sha256 as sha2::Digest>::digest(number.to_string()));
                    prop_assert_eq!(&seen.content, &data, "{}", path);
                }
            }
        }
    }
}
