//! The secret with which edge and backend authenticate to each other.

use super::ConfigError;
use crate::process::own_environment;
use clap::Args;
use firn_shared::link::authentication::Secret;
use std::path::{Path, PathBuf};

/// The name under which systemd passes the secret (`LoadCredential=firn-secret:/FILE`).
const CREDENTIAL: &str = "firn-secret";

/// The secret, or the file that holds it.
#[derive(Debug, Clone, Default, Args)]
pub struct SecretArgs {
    /// Secret shared with the edge; if set, only the edge is answered
    #[arg(long, env = "FIRN_SECRET", value_name = "TEXT", hide_env_values = true)]
    pub secret: Option<String>,

    /// File that holds the secret [default: systemd's credential firn-secret, if there is one]
    #[arg(long, env = "FIRN_SECRET_FILE", value_name = "FILE", conflicts_with = "secret")]
    pub secret_file: Option<PathBuf>,
}

/// The token for `/metrics`, or the file that holds it.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricsArgs {
    /// Token for /metrics, sent as Authorization: Bearer [default: none; then /metrics is answered only if the server
    /// listens on the loopback interface and has no secret]
    #[arg(long, env = "FIRN_METRICS_TOKEN", value_name = "TEXT", hide_env_values = true)]
    pub metrics_token: Option<String>,

    /// File that holds the token
    #[arg(long, env = "FIRN_METRICS_TOKEN_FILE", value_name = "FILE", conflicts_with = "metrics_token")]
    pub metrics_token_file: Option<PathBuf>,
}

impl SecretArgs {
    /// The file that holds the secret, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        let credential = || {
            let file = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
            file.exists().then_some(file)
        };
        self.secret_file.clone().or_else(credential)
    }

    /// The secret, if there is one.
    ///
    /// # Errors
    /// If the secret is empty, as with `$(cat missing-file)`: the operator meant to set one. If its file cannot be
    /// read. If it is given both ways.
    pub fn secret(&self) -> Result<Option<Secret>, ConfigError> {
        let text = one_of("FIRN_SECRET", self.secret.clone(), self.file())?;
        Ok(text.map(Secret::new))
    }
}

impl MetricsArgs {
    /// The token, if there is one.
    ///
    /// # Errors
    /// See [`SecretArgs::secret`].
    pub fn token(&self) -> Result<Option<String>, ConfigError> {
        one_of("FIRN_METRICS_TOKEN", self.metrics_token.clone(), self.metrics_token_file.clone())
    }
}

/// The value of the option, of the variable, or of the file.
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
        let message = format!("{name} is empty; unset it if you want none");
        return Err(ConfigError(message));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_secret_is_none_that_was_meant() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |text: &str| {
            let file = dir.path().join("secret");
            std::fs::write(&file, text).expect("written");
            SecretArgs { secret: None, secret_file: Some(file) }
        };
        let given = |text: &str| SecretArgs { secret: Some(text.into()), secret_file: None };
        for empty in [given(""), given(" "), file(""), file("\n"), file(" \n")] {
            let error = empty.secret().expect_err("empty").to_string();
            assert!(error.contains("is empty"), "{error}");
        }
        let secret = Some(Secret::new("s3cret"));
        for args in [given("s3cret"), file("s3cret"), file("s3cret\n"), file("s3cret\r\n")] {
            assert_eq!(args.secret().expect("a secret"), secret);
        }
        let missing = SecretArgs { secret: None, secret_file: Some(dir.path().join("none")) };
        assert!(missing.secret().is_err());
        let both = SecretArgs { secret: Some("x".into()), ..file("y") };
        assert!(both.secret().is_err());
    }
}
