//! Images derived from Firn's: what they copy to the root appears beside what packages have there.

use crate::{backend, dockerd};
use firn_tests::dockerd::Builder;
use std::fs;
use tempfile::TempDir;

/// Files that a derived image adds, in directories of packages, of the image itself, and in new ones.
const ADDED: [&str; 10] = [
    "bin/own",
    "etc/nginx/conf.d/own.conf",
    "etc/nginx/own.conf",
    "etc/own/own.conf",
    "etc/ssl/certs/own.pem",
    "home/user/own",
    "opt/own/own",
    "usr/lib/own",
    "usr/local/bin/own",
    "var/lib/own",
];

/// Files of packages in the same directories.
const KEPT: [&str; 6] = [
    "bin/bash",
    "etc/nginx/mime.types",
    "etc/nginx/nginx.conf",
    "etc/nginx/snippets/snakeoil.conf",
    "etc/ssl/certs/ca-bundle.crt",
    "usr/lib/locale/C.utf8/LC_CTYPE",
];

#[test]
fn files_of_derived_images_are_beside_those_of_packages() {
    let base = format!("{}/shell/nginx", backend().address());
    dockerd().pull(&base);
    let context = TempDir::new().expect("a temporary directory");
    for path in ADDED {
        let path = context.path().join("rootfs").join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, "own").expect("written");
    }
    fs::write(context.path().join("Dockerfile"), format!("FROM {base}\nCOPY rootfs/ /\n")).expect("written");
    for builder in [Builder::Classic, Builder::BuildKit] {
        let tag = format!("firn.test/derived-{builder:?}").to_lowercase();
        dockerd().build(builder, context.path(), &tag).succeeded();
        let script =
            "for path in \"$@\"; do test -s \"/$path\" || echo \"/$path is not there\"; done; nginx -t";
        let command = [&["bash", "-euc", script, "bash"], &ADDED[..], &KEPT].concat();
        let said = dockerd().run(&[], &tag, &command);
        assert_eq!(said.succeeded(), "", "{builder:?}");
    }
}
