//! Converts the first image of an OCI layout: `convert LAYOUT OUTPUT`. It is what comparisons with other
//! tools time.

use std::error::Error;
use std::fs::File;
use std::path::Path;

use microagent_rootfs::{LayerBlob, Limits, convert};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layout, output] = &arguments[..] else { return Err("usage: convert LAYOUT OUTPUT".into()) };
    let layers = layers(Path::new(layout))?;
    let output = File::options().read(true).write(true).create(true).truncate(true).open(output)?;
    convert(&layers, &output, &Limits::default(), &mut |_| {})?;
    Ok(())
}

fn layers(layout: &Path) -> Result<Vec<LayerBlob>, Box<dyn Error>> {
    let blob = |digest: &str| layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let json = |path| -> Result<Value, Box<dyn Error>> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let index = json(layout.join("index.json"))?;
    let manifest = json(blob(text(&index["manifests"][0]["digest"])?))?;
    let config = json(blob(text(&manifest["config"]["digest"])?))?;
    let diff_ids = config["rootfs"]["diff_ids"].as_array().ok_or("no diff IDs")?;
    let descriptors = manifest["layers"].as_array().ok_or("no layers")?;
    let layer = |(descriptor, diff_id): (&Value, &Value)| {
        Ok(LayerBlob {
            path: blob(text(&descriptor["digest"])?),
            digest: parse(text(&descriptor["digest"])?)?,
            diff_id: parse(text(diff_id)?)?,
            size: descriptor["size"].as_u64().ok_or("no size")?,
        })
    };
    descriptors.iter().zip(diff_ids).map(layer).collect()
}

fn text(value: &Value) -> Result<&str, Box<dyn Error>> {
    Ok(value.as_str().ok_or("a value is missing")?)
}

fn parse(digest: &str) -> Result<[u8; 32], Box<dyn Error>> {
    let digits = digest.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or("not a SHA-256")?;
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * index..2 * index + 2).ok_or("not a SHA-256")?;
        *byte = u8::from_str_radix(pair, 16)?;
    }
    Ok(bytes)
}
