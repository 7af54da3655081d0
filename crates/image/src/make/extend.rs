//! An image that is another one and a layer on top.

use super::{MakeError, NewLayer};
use crate::manifest::{DOCKER_MANIFEST, Document, DocumentError, Manifest};
use crate::store::Ingest;
use crate::{Configuration, Image, Reference, StoreError};

/// What Docker calls a layer that is packed by gzip.
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

impl Ingest {
    /// Makes an image of `base` and `layer`, which is packed by gzip, on top of it, and gives it the `name`. `config`
    /// is that of the new image.
    ///
    /// It is of the family that the base is of, OCI's or Docker's, and refers to the base's layers in the same words.
    /// A base that loses its last name so is kept without one.
    pub fn extended(
        &self,
        base: &Image,
        config: &Configuration,
        layer: &NewLayer,
        name: &Reference,
    ) -> Result<Image, MakeError> {
        let Manifest { media_type, config: base_config, mut layers } = self.manifest_of(base)?;
        let mut top = layer.descriptor.clone();
        if media_type == DOCKER_MANIFEST {
            DOCKER_GZIP.clone_into(&mut top.media_type);
        }
        layers.push(top);
        let (image, descriptor) = self.unnamed((&media_type, &base_config.media_type), config, layers)?;
        self.name_over(&descriptor, name, &base.manifest_digest)?;
        Ok(Image { reference: Some(name.clone()), ..image })
    }

    fn manifest_of(&self, image: &Image) -> Result<Manifest, StoreError> {
        let digest = image.manifest_digest;
        let damaged = |source| StoreError::Document { digest, source };
        match Document::parse(&self.store().read_document(&digest)?).map_err(damaged)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(damaged(DocumentError::Ambiguous)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Descriptor, OCI_CONFIG, OCI_MANIFEST};
    use crate::{Compression, Digest, History, Platform, Store};

    const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    const DOCKER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";

    /// Archives with nothing in them, which differ in how they end.
    const LOWER: [u8; 1024] = [0; 1024];
    const UPPER: [u8; 1536] = [0; 1536];

    fn history() -> History {
        History { created: "2026-01-01T00:00:00Z".into(), ..History::default() }
    }

    /// An image `base` of this family.
    fn base(ingest: &Ingest, manifest: &str, config_type: &str, layer_type: &str) -> Image {
        let layer = ingest.layer(&mut &LOWER[..], Compression::None).unwrap();
        let mut config = Configuration::empty(&Platform::of_host());
        config.add_layer(&layer.diff_id, &history());
        let config = config.to_bytes();
        let layer = Descriptor { media_type: layer_type.into(), ..layer.descriptor };
        let layer = Descriptor { annotations: [("a".to_owned(), "b".to_owned())].into(), ..layer };
        let config = Descriptor::new(config_type, ingest.put(&config).unwrap(), config.len() as u64);
        let bytes = Manifest { media_type: manifest.into(), config, layers: vec![layer] }.to_bytes();
        let digest = ingest.put(&bytes).unwrap();
        let plain = Descriptor::new(manifest, digest, bytes.len() as u64);
        let descriptor = Descriptor { platform: Some(Platform::of_host()), ..plain };
        ingest.name(&descriptor, &["base".parse().unwrap()]).unwrap();
        ingest.store().read(&digest).unwrap()
    }

    fn extended(ingest: &Ingest, base: &Image, name: &str) -> Image {
        let layer = ingest.layer(&mut &UPPER[..], Compression::Gzip).unwrap();
        let mut config = Configuration::of(ingest.store(), base).unwrap();
        config.add_layer(&layer.diff_id, &history());
        ingest.extended(base, &config, &layer, &name.parse().unwrap()).unwrap()
    }

    #[test]
    fn an_extended_image_is_of_its_bases_family_and_has_its_layers() {
        for (manifest, config, lower, upper) in [
            (OCI_MANIFEST, OCI_CONFIG, Compression::None.media_type(), Compression::Gzip.media_type()),
            (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_TAR, DOCKER_GZIP),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let ingest = Store::open(directory.path()).unwrap().add().unwrap();
            let base = base(&ingest, manifest, config, lower);
            let image = extended(&ingest, &base, "new");
            let (old, new) = (ingest.manifest_of(&base).unwrap(), ingest.manifest_of(&image).unwrap());
            assert_eq!((new.media_type.as_str(), new.config.media_type.as_str()), (manifest, config));
            assert_eq!(new.layers[..1], old.layers[..]);
            assert_eq!(new.layers[1].media_type, upper);
            assert_eq!(image.layers[1].diff_id, Digest::of(&UPPER));
            assert_eq!(extended(&ingest, &base, "again").manifest_digest, image.manifest_digest);
        }
    }

    #[test]
    fn a_base_whose_name_is_taken_is_kept_without_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let ingest = store.add().unwrap();
        let base = base(&ingest, OCI_MANIFEST, OCI_CONFIG, Compression::None.media_type());
        let image = extended(&ingest, &base, "base");
        drop(ingest);
        store.collect().unwrap();
        assert_eq!(store.read(&base.manifest_digest).unwrap(), base);
        let named = |wanted: &Digest| {
            let listed = store.list().unwrap();
            let found = listed.iter().filter(|listed| listed.manifest_digest == *wanted);
            found.map(|listed| listed.reference.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(named(&base.manifest_digest), [false]);
        assert_eq!(named(&image.manifest_digest), [true]);
        // One that nobody keeps is not brought back.
        store.remove_digest(&base.manifest_digest).unwrap();
        let ingest = store.add().unwrap();
        extended(&ingest, &base, "base");
        assert!(named(&base.manifest_digest).is_empty());
    }
}
