//! Reading the secrets that options give or name.

use crate::{
    config::{ConfigError, MetricsArgs, SecretArgs},
    process::own_environment,
};
use firn_shared::link::authentication::Secret;
use std::path::{Path, PathBuf};

/// The name under which systemd passes the secret (`LoadCredential=firn-secret:/FILE`).
const CREDENTIAL: &str = "firn-secret";

/// The file that the edge's secret is in, if it is in one.
pub(super) fn secret_file(args: &SecretArgs) -> Option<PathBuf> {
    let credential = || {
        let file = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
        file.exists().then_some(file)
    };
    args.secret_file.clone().or_else(credential)
}

/// The secret that is shared with the edge, if there is one.
///
/// # Errors
/// When it is empty, as `$(cat missing-file)` is: the operator meant to have one. When its file cannot be read, or
/// it is given twice.
pub(super) fn edge_secret(args: &SecretArgs) -> Result<Option<Secret>, ConfigError> {
    let text = one_of("FIRN_SECRET", args.secret.clone(), secret_file(args))?;
    Ok(text.map(Secret::new))
}

/// The token for metrics, if there is one.
///
/// # Errors
/// As [`edge_secret`].
pub(super) fn metrics_token(args: &MetricsArgs) -> Result<Option<String>, ConfigError> {
    one_of("FIRN_METRICS_TOKEN", args.metrics_token.clone(), args.metrics_token_file.clone())
}

/// A secret that a variable, or the option of the same name, or a file holds.
fn one_of(
    variable: &str,
    given: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<String>, ConfigError> {
    let (text, name) = match (given.or_else(|| own_environment::variable(variable)), file) {
        (Some(_), Some(file)) => {
            let message = format!("{variable} and the file {} are both given: choose one", file.display());
            return Err(ConfigError(message));
        }
        (Some(text), None) => (text, variable.to_owned()),
        (None, Some(file)) => {
            let read = std::fs::read_to_string(&file);
            let text = read.map_err(|error| ConfigError(format!("{}: {error}", file.display())))?;
            (text.trim_end_matches(['\r', '\n']).to_owned(), file.display().to_string())
        }
        (None, None) => return Ok(None),
    };
    if text.trim().is_empty() {
        let message = format!("{name} is empty; unset it if there is meant to be none");
        return Err(ConfigError(message));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_secret_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |text: &str| {
            let file = dir.path().join("secret");
            std::fs::write(&file, text).expect("written");
            SecretArgs { secret: None, secret_file: Some(file) }
        };
        let given = |text: &str| SecretArgs { secret: Some(text.into()), secret_file: None };
        for empty in [given(""), given(" "), file(""), file("\n"), file(" \n")] {
            let error = edge_secret(&empty).expect_err("empty").to_string();
            assert!(error.contains("is empty"), "{error}");
        }
        let secret = Some(Secret::new("s3cret"));
        for args in [given("s3cret"), file("s3cret"), file("s3cret\n"), file("s3cret\r\n")] {
            assert_eq!(edge_secret(&args).expect("a secret"), secret);
        }
        let missing = SecretArgs { secret: None, secret_file: Some(dir.path().join("none")) };
        assert!(edge_secret(&missing).is_err());
        let both = SecretArgs { secret: Some("x".into()), ..file("y") };
        assert!(edge_secret(&both).is_err());
    }
}
