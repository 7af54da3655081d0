//! Layers that come one after the other, while others are still on their way.

use std::sync::mpsc::channel;
use std::time::Duration;

use microagent_rootfs::{ConvertError, LayerBlob, LayerError, Limits, convert_arriving};
use tempfile::NamedTempFile;

use crate::archive::{Archive, file};
use crate::image::Layers;

fn three() -> Layers {
    let large = Archive::new([file("a", vec![1; 300_000]), file("b", "lower")]);
    Layers::of([
        large,
        Archive::new([file(".wh.a", ""), file("b", "middle")]),
        Archive::new([file("c", "upper")]),
    ])
}

/// Converts in a thread of its own what `send` sends, which hears how many bytes were read.
fn converted(
    expected: usize,
    send: impl FnOnce(&dyn Fn(LayerBlob), &dyn Fn() -> u64),
) -> Result<NamedTempFile, ConvertError> {
    let image = NamedTempFile::new().unwrap();
    let (layers, arriving) = channel();
    let (read, told) = channel();
    let outcome = std::thread::scope(|scope| {
        let output = image.as_file();
        let convert = scope.spawn(move || {
            let report = &mut |bytes| {
                let _ = read.send(bytes);
            };
            convert_arriving(arriving, expected, output, &Limits::default(), report)
        });
        send(&|layer| drop(layers.send(layer)), &|| told.recv_timeout(Duration::from_secs(60)).unwrap());
        drop(layers);
        convert.join().unwrap()
    });
    outcome.map(|_| image)
}

#[test]
fn a_layer_is_merged_while_the_next_is_not_there() {
    let layers = three();
    let [first, second, third] = layers.blobs.clone().try_into().unwrap();
    let image = converted(3, |send, read| {
        let sizes = [first.size, first.size + second.size];
        send(first);
        while read() < sizes[0] {}
        send(second);
        while read() < sizes[1] {}
        send(third);
    });
    let arrived = std::fs::read(image.unwrap().path()).unwrap();
    assert_eq!(arrived, std::fs::read(layers.convert().unwrap().path()).unwrap());
}

#[test]
fn what_does_not_come_leaves_no_image() {
    let layers = three();
    let error = converted(3, |send, _| layers.blobs[..2].iter().cloned().for_each(send)).unwrap_err();
    assert!(matches!(error, ConvertError::Incomplete { came: 2, expected: 3 }), "{error}");
    let mut wrong = layers.blobs.clone();
    wrong[0].digest[0] ^= 1;
    let error = converted(3, |send, _| wrong.into_iter().for_each(send)).unwrap_err();
    assert!(matches!(error, ConvertError::Layer { source: LayerError::Digest { .. }, .. }), "{error}");
}
