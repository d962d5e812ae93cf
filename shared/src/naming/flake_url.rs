//! URLs of flakes, as the operator writes them for Nix.
//!
//! A flake is a package set in a git repository or in a directory. So its URL says which repository, branch, tag or commit,
//! and which directory in it. Archives are refused because they have none of these.

use super::{
    flake_dir::{FlakeDir, ParseFlakeDirError},
    package_source::{GitRef, PackageSource, ParseGitRefError, Version},
    source_url::SourceUrl,
};
use std::path::{Path, PathBuf};

/// Why a text is not the URL of a flake that can be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseFlakeUrlError {
    /// It has no scheme, and is a path.
    #[error(
        "a path alone is ambiguous: write path:/DIRECTORY for its current content, or git+file:///DIRECTORY for \
         the commits of a repository"
    )]
    BarePath,
    /// It is a name in a registry of flakes.
    #[error(
        "a name in the registry of flakes means different things on different machines: write the flake's URL, \
         such as github:OWNER/REPOSITORY"
    )]
    Registry,
    /// It is an archive.
    #[error(
        "an archive has no branches, tags or commits: write the flake's repository, such as \
         github:OWNER/REPOSITORY or git+https://HOST/REPOSITORY"
    )]
    Archive,
    /// Its scheme is unknown.
    #[error(
        "flakes of the kind {0:?} are not served: write github:, gitlab:, sourcehut:, git+https:, git+ssh:, \
         git+file: or path:"
    )]
    Kind(String),
    /// It names no repository or no directory.
    #[error("it does not say where the flake is: write {0}")]
    Incomplete(&'static str),
    /// A parameter changes what the flake consists of, and this change is not supported.
    #[error("the parameter {0:?} is not supported")]
    Parameter(String),
    /// The directory leads out of the flake.
    #[error(transparent)]
    Directory(#[from] ParseFlakeDirError),
    /// The branch, tag or commit cannot be one.
    #[error(transparent)]
    Version(#[from] ParseGitRefError),
}

/// The hosts with a scheme of their own: scheme, host, and what follows a repository's name in its URL.
const HOSTS: [(&str, &str, &str); 3] =
    [("github", "github.com", ""), ("gitlab", "gitlab.com", ".git"), ("sourcehut", "git.sr.ht", "")];

/// What git may follow in a scheme.
const GIT_SCHEMES: [&str; 5] = ["git+https", "git+http", "git+ssh", "git+file", "git"];

/// Parameters that change the flake's files.
const UNSUPPORTED: [&str; 3] = ["narHash", "submodules", "lfs"];
/// Parameters that say how to fetch. Firn decides that itself.
const IGNORED: [&str; 4] = ["allRefs", "shallow", "lastModified", "revCount"];

/// The source of the package set that a flake's URL names.
///
/// # Errors
/// If it is no such URL, or that of a flake that cannot be served.
pub fn parse(text: &str) -> Result<PackageSource, ParseFlakeUrlError> {
    if text.starts_with(['/', '.', '~']) {
        return Err(ParseFlakeUrlError::BarePath);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return Err(ParseFlakeUrlError::Registry) };
    if let Some(host) = HOSTS.iter().find(|(name, ..)| *name == scheme) {
        return of_host(*host, rest);
    }
    match scheme {
        "path" => of_path(rest),
        scheme if GIT_SCHEMES.contains(&scheme) => of_repository(scheme, rest),
        "flake" => Err(ParseFlakeUrlError::Registry),
        "https" | "http" | "file" => Err(ParseFlakeUrlError::Archive),
        scheme if scheme.starts_with("tarball+") || scheme.starts_with("file+") => {
            Err(ParseFlakeUrlError::Archive)
        }
        scheme => Err(ParseFlakeUrlError::Kind(scheme.chars().take(40).collect())),
    }
}

/// `OWNER/REPOSITORY[/VERSION][?PARAMETERS]`
fn of_host(
    (scheme, host, suffix): (&str, &str, &str),
    rest: &str,
) -> Result<PackageSource, ParseFlakeUrlError> {
    let (path, parameters) = Parameters::of(rest);
    let mut parts = path.splitn(3, '/');
    let is_name = |name: &&str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-%".contains(&byte);
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
    };
    let (Some(owner), Some(repository)) = (parts.next().filter(is_name), parts.next().filter(is_name)) else {
        return Err(ParseFlakeUrlError::Incomplete(match scheme {
            "github" => "github:OWNER/REPOSITORY",
            "gitlab" => "gitlab:OWNER/REPOSITORY",
            _ => "sourcehut:~OWNER/REPOSITORY",
        }));
    };
    let Taken { version, dir, host: other, rest } = parameters.take()?;
    if let Some(parameter) = rest.first() {
        return Err(unsupported(parameter));
    }
    let named = parts.next().map(version_of).transpose()?;
    let host = other.unwrap_or(host);
    // GitLab has groups in groups.
    let owner = owner.replace("%2F", "/").replace("%2f", "/");
    let url = format!("https://{host}/{owner}/{repository}{suffix}").as_str().into();
    Ok(PackageSource::Git { url, default: named.or(version), flake: Some(dir) })
}

/// `//HOST/REPOSITORY[?PARAMETERS]`
fn of_repository(scheme: &str, rest: &str) -> Result<PackageSource, ParseFlakeUrlError> {
    const EXAMPLE: &str = "git+https://HOST/REPOSITORY";
    let (place, parameters) = Parameters::of(rest);
    let has_place = place.strip_prefix("//").is_some_and(|place| place.trim_matches('/').contains('/'))
        || (scheme == "git+file" && place.starts_with("///") && place.len() > 3);
    if !has_place || place.contains(char::is_whitespace) {
        return Err(ParseFlakeUrlError::Incomplete(EXAMPLE));
    }
    let Taken { version, dir, host, rest } = parameters.take()?;
    if host.is_some() {
        return Err(ParseFlakeUrlError::Parameter("host".into()));
    }
    let scheme = scheme.strip_prefix("git+").unwrap_or(scheme);
    // The others are the host's, such as a token. A path has none.
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    if let Some(parameter) = rest.first().filter(|_| scheme == "file") {
        return Err(unsupported(parameter));
    }
    let url = SourceUrl::from(format!("{scheme}:{place}{query}").as_str());
    Ok(PackageSource::Git { url, default: version, flake: Some(dir) })
}

/// `/DIRECTORY[?dir=…]`
fn of_path(rest: &str) -> Result<PackageSource, ParseFlakeUrlError> {
    let (path, parameters) = Parameters::of(rest);
    let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
    if !Path::new(path).is_absolute() {
        return Err(ParseFlakeUrlError::Incomplete("path:/DIRECTORY, an absolute path"));
    }
    let Taken { version, dir, host, rest } = parameters.take()?;
    if version.is_some() || host.is_some() {
        return Err(ParseFlakeUrlError::Parameter("ref, rev or host".into()));
    }
    if let Some(parameter) = rest.first() {
        return Err(unsupported(parameter));
    }
    Ok(PackageSource::Path { path: PathBuf::from(path), flake: Some(dir) })
}

/// The error for a parameter. Its value may be a secret, so only its name is shown.
fn unsupported(parameter: &str) -> ParseFlakeUrlError {
    let name = parameter.split('=').next().unwrap_or_default();
    ParseFlakeUrlError::Parameter(name.to_owned())
}

/// A branch, tag or commit. Nix accepts the whole name of a ref.
fn version_of(text: &str) -> Result<Version, ParseGitRefError> {
    let whole = ["refs/heads/", "refs/tags/"].iter().find_map(|prefix| text.strip_prefix(prefix));
    match whole {
        Some(name) => name.parse::<GitRef>().map(Version::Ref),
        None => text.parse(),
    }
}

/// The parameters of a URL.
struct Parameters<'a>(Vec<&'a str>);

/// What the parameters say, and those that are left.
struct Taken<'a> {
    version: Option<Version>,
    dir: FlakeDir,
    host: Option<&'a str>,
    rest: Vec<&'a str>,
}

impl<'a> Parameters<'a> {
    fn of(text: &'a str) -> (&'a str, Self) {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        (path, Self(query.split('&').filter(|parameter| !parameter.is_empty()).collect()))
    }

    fn take(self) -> Result<Taken<'a>, ParseFlakeUrlError> {
        let mut taken = Taken { version: None, dir: FlakeDir::default(), host: None, rest: Vec::new() };
        let (mut name, mut commit) = (None, None);
        for parameter in self.0 {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("ref", value) => name = Some(version_of(value)?),
                ("rev", value) => commit = Some(Version::Commit(value.parse()?)),
                ("dir", value) => taken.dir = value.parse()?,
                ("host", value) => taken.host = Some(value),
                (key, _) if UNSUPPORTED.contains(&key) => {
                    return Err(ParseFlakeUrlError::Parameter(key.into()));
                }
                (key, _) if IGNORED.contains(&key) => {}
                _ => taken.rest.push(parameter),
            }
        }
        taken.version = commit.or(name);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// The source in one line.
    fn shown(text: &str) -> Result<String, String> {
        let source = parse(text).map_err(|error| error.to_string())?;
        Ok(match source {
            PackageSource::Git { url, default, flake } => {
                let default = default.map_or_else(|| "default".to_owned(), |version| version.to_string());
                format!("{} at {default} in {:?}", url.with_credentials(), flake.expect("a flake").as_str())
            }
            PackageSource::Path { path, flake } => {
                format!("{} in {:?}", path.display(), flake.expect("a flake").as_str())
            }
            PackageSource::Channel(_) => unreachable!("no flake is a channel"),
        })
    }

    #[test]
    fn urls_name_repositories_and_directories() {
        let check = |text: &str, expect: &str| assert_eq!(shown(text).as_deref(), Ok(expect), "{text}");
        check("github:NixOS/nixpkgs", r#"https://github.com/NixOS/nixpkgs at default in """#);
        check("github:o/r/main", r#"https://github.com/o/r at main in """#);
        check("github:o/r/feature/x?dir=/sub/./dir/", r#"https://github.com/o/r at feature/x in "sub/dir""#);
        check(&format!("github:o/r/{COMMIT}"), &format!(r#"https://github.com/o/r at {COMMIT} in """#));
        check("github:o/r?ref=v1&host=git.example.org", r#"https://git.example.org/o/r at v1 in """#);
        check("gitlab:group%2Fsub/r", r#"https://gitlab.com/group/sub/r.git at default in """#);
        check("sourcehut:~me/r", r#"https://git.sr.ht/~me/r at default in """#);
        check("git+https://h/o/r.git?ref=refs/heads/main", r#"https://h/o/r.git at main in """#);
        check("git+https://u:p@h/o/r?token=t&dir=d", r#"https://u:p@h/o/r?token=t at default in "d""#);
        check("git+ssh://git@h/o/r?shallow=1", r#"ssh://git@h/o/r at default in """#);
        check("git+file:///srv/set?dir=x", r#"file:///srv/set at default in "x""#);
        check("git://h/o/r", r#"git://h/o/r at default in """#);
        check(
            &format!("git+https://h/o/r?ref=main&rev={COMMIT}"),
            &format!(r#"https://h/o/r at {COMMIT} in """#),
        );
        check("path:/srv/set", r#"/srv/set in """#);
        check("path:///srv/set?dir=sub", r#"/srv/set in "sub""#);
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_a_sentence() {
        let check = |text: &str, says: &str| {
            assert!(shown(text).is_err_and(|error| error.contains(says)), "{text}: {:?}", shown(text));
        };
        check("/srv/set", "path:/DIRECTORY");
        check("./set", "git+file");
        check("nixpkgs", "registry of flakes");
        check("flake:nixpkgs", "registry of flakes");
        check("https://example.org/x.tar.gz", "an archive has no branches");
        check("tarball+https://example.org/x", "an archive has no branches");
        check("hg+https://example.org/x", "flakes of the kind");
        check("github:o", "github:OWNER/REPOSITORY");
        check("github:../r", "github:OWNER/REPOSITORY");
        check("github:o/r?submodules=1", "\"submodules\"");
        check("github:o/r?token=s3cret", "the parameter \"token\" is not supported");
        check("github:o/r?dir=../x", "not a directory in the flake");
        check("github:o/r/--upload-pack=x", "neither a 40-digit commit");
        check("git+https://h", "git+https://HOST/REPOSITORY");
        check("git+https:h/o/r", "git+https://HOST/REPOSITORY");
        check("git+https://h/o/r?narHash=x", "narHash");
        check("path:set", "an absolute path");
        check("path:/srv/set?ref=main", "not supported");
    }
}
