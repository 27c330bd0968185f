use std::path::PathBuf;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

struct Files(TempDir);

impl Files {
    fn with(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn pair() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let files = Files(tempfile::tempdir().unwrap());
    let ((cert, key), (other, _)) = (pair(), pair());
    let mixed = format!("{other}{cert}");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let torn = "-----BEGIN PRIVATE KEY-----\nAAAA\n";
    for (cert, key, words) in [
        (&*cert, "", "holds no key"),
        ("", &*key, "holds no certificate"),
        (&key, &key, "holds no certificate"),
        (&cert, &cert, "holds no key"),
        (&other, &key, "does not belong to the first certificate"),
        (&mixed, &key, "does not belong to the first certificate"),
        (&cert, encrypted, "is encrypted"),
        (&cert, traditional, "is encrypted"),
        (&cert, torn, "PEM"),
    ] {
        let (cert, key) = (files.with("cert", cert), files.with("key", key));
        let said = Identity::read(&cert, &key).unwrap_err();
        assert!(said.contains(words), "{words:?}: {said}");
    }
    let (cert, key) = (files.with("cert", &cert), files.with("key", &key));
    assert!(Identity::read(&cert, &key).is_ok());
    assert!(Trust::only(&cert).is_ok());
    let nowhere = files.0.path().join("nowhere");
    for said in [
        Identity::read(&nowhere, &key).unwrap_err(),
        Identity::read(&cert, &nowhere).unwrap_err(),
        Trust::only(&nowhere).unwrap_err(),
        Trust::system(Some(&key)).unwrap_err(),
    ] {
        assert!(
            said.contains("cannot read") || said.contains("holds no certificate"),
            "{said}"
        );
    }
}

#[test]
fn no_secret_is_printed() {
    let files = Files(tempfile::tempdir().unwrap());
    let (cert, key) = pair();
    let read = Identity::read(&files.with("cert", &cert), &files.with("key", &key)).unwrap();
    assert_eq!(format!("{read:?}"), "Identity { .. }");
}
