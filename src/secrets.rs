//! Secrets that must not be shown: the values of environment variables with key-like names, the values of an `.env`
//! file, and values added explicitly. This module masks them in texts and streams and finds them in arguments. It never
//! shows one, not even in `Debug`.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aho_corasick::AhoCorasick;

/// The shortest value that counts as a secret, in characters: shorter values occur by chance in any text.
const MIN_SECRET_CHARS: usize = 8;
/// Parts of a variable name that mark a secret, as a whole word or at the end of a longer word (`PGPASSWORD`).
const SECRET_SUFFIXES: [&str; 7] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY"];
/// Parts that mark a secret only as a whole word, because many ordinary words end like them.
const SECRET_WORDS: [&str; 7] = ["KEY", "AUTHKEY", "ACCESSKEY", "SECRETKEY", "PRIVATEKEY", "MASTERKEY", "SIGNINGKEY"];
/// Names that contain such a part but hold no secret: git's way to pass settings, and token limits.
const NON_SECRET_PATTERNS: [&str; 2] = ["GIT_CONFIG_KEY_*", "*MAX_TOKENS"];
/// The variable in which a server passes the operator's additional and excluded names to its supervisors.
const MASK_ENV_VARIABLE: &str = "MASSGEN_MCP_MASK_ENV";
const SHOW_ENV_VARIABLE: &str = "MASSGEN_MCP_SHOW_ENV";
/// The rehearsal endpoint's API key. It is also part of the rehearsal's name, so it must not be masked.
const REHEARSAL_KEY: &str = "rehearsal";
/// The display name of a secret that belongs to no variable.
const UNNAMED_SECRET: &str = "a value of the config";

/// Known secrets; empty by default. Clones share the data.
#[derive(Clone, Default)]
pub struct Secrets(Option<Arc<SecretIndex>>);

struct SecretIndex {
    /// Names and values, with longer values first.
    entries: Vec<(String, String)>,
    automaton: AhoCorasick,
    /// The length of the longest value in bytes.
    max_len: usize,
}

/// An `.env` file that cannot be used. Errors never include its content.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// The file cannot be read.
    #[error("cannot read the env file `{}`", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line of the file is not of the form `NAME=value`.
    #[error("`{}` is no env file: a line of it is not NAME=value", .0.display())]
    Malformed(PathBuf),
}

/// The variables of an `.env` file, in file order.
///
/// # Errors
///
/// If the file cannot be read, or a line is not an assignment.
pub fn read_env_file(path: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    let refused = |error| {
        // The other error kinds repeat the line.
        let dotenvy::Error::Io(source) = error else { return EnvFileError::Malformed(path.to_owned()) };
        EnvFileError::Unreadable { path: path.to_owned(), source }
    };
    dotenvy::from_path_iter(path).map_err(refused)?.collect::<Result<_, _>>().map_err(refused)
}

/// The operator's rules for variable names: names, or prefixes that end in `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretNameRules {
    /// Variables that hold secrets.
    pub masked: Vec<String>,
    /// Variables that hold no secrets, whatever their names look like.
    pub shown: Vec<String>,
}

static NAME_RULES: OnceLock<SecretNameRules> = OnceLock::new();

impl SecretNameRules {
    /// Installs the rules for this process. Call it before the first use of a rule; a later call has no effect.
    pub fn install(self) {
        let _holds_already = NAME_RULES.set(self);
    }

    /// The rules of this process: those that were installed, otherwise those from the parent process.
    fn current() -> &'static SecretNameRules {
        let from = |variable| {
            let text = std::env::var(variable).unwrap_or_default();
            text.split(':').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        };
        NAME_RULES.get_or_init(|| SecretNameRules { masked: from(MASK_ENV_VARIABLE), shown: from(SHOW_ENV_VARIABLE) })
    }

    /// Variables that pass the rules to a child process.
    pub fn child_variables() -> [(&'static str, String); 2] {
        let held = SecretNameRules::current();
        [(MASK_ENV_VARIABLE, held.masked.join(":")), (SHOW_ENV_VARIABLE, held.shown.join(":"))]
    }

    fn classify(&self, name: &str) -> Option<bool> {
        let is_in = |names: &[String]| names.iter().any(|pattern| matches_pattern(name, pattern));
        match (is_in(&self.shown), is_in(&self.masked)) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }
}

/// Whether a variable of this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    SecretNameRules::current().classify(name).unwrap_or_else(|| has_secret_word(name))
}

fn has_secret_word(name: &str) -> bool {
    if NON_SECRET_PATTERNS.iter().any(|pattern| matches_pattern(&name.to_uppercase(), pattern)) {
        return false;
    }
    name_words(name).into_iter().any(|part| {
        let one = part.strip_suffix('S').unwrap_or(&part);
        [part.as_str(), one]
            .iter()
            .any(|part| SECRET_WORDS.contains(part) || SECRET_SUFFIXES.iter().any(|sign| part.ends_with(sign)))
    })
}

/// The words of a name in upper case: `npm_config__authToken` has NPM, CONFIG, AUTH and TOKEN.
fn name_words(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = '_';
    for character in name.chars() {
        if !character.is_alphanumeric() || (before.is_lowercase() && character.is_uppercase()) {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut().filter(|_| character.is_alphanumeric()) {
            last.extend(character.to_uppercase());
        }
        before = character;
    }
    parts
}

fn matches_pattern(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == pattern,
    }
}

impl Secrets {
    /// The secrets of this process's environment and of the optional `.env` file.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub fn from_environment(env_file: Option<&Path>) -> Result<Secrets, EnvFileError> {
        let from_file = env_file.map(self::read_env_file).transpose()?.unwrap_or_default();
        let own =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Secrets::from_variables(own.chain(from_file)))
    }

    /// The secrets in a list of variables.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Secrets {
        let keys = variables.into_iter().filter(|(name, value)| is_secret_name(name) && !is_existing_path(value));
        Secrets::default().extended(keys)
    }

    /// These secrets and the given values, such as literal keys of a config. Values shorter than eight characters are
    /// ignored.
    #[must_use]
    pub fn with_values(&self, values: impl IntoIterator<Item = String>) -> Secrets {
        self.extended(values.into_iter().map(|value| (UNNAMED_SECRET.to_owned(), value)))
    }

    fn extended(&self, more: impl IntoIterator<Item = (String, String)>) -> Secrets {
        let before = self.0.iter().flat_map(|known| known.entries.iter().cloned());
        let trimmed = more.into_iter().map(|(name, value)| (name, value.trim().to_owned()));
        let long = trimmed.filter(|(_, value)| value.chars().count() >= MIN_SECRET_CHARS && value != REHEARSAL_KEY);
        let written = long.flat_map(|(name, value)| escaped_forms(&value).map(|value| (name.clone(), value)));
        let mut all: Vec<(String, String)> = before.chain(written).collect();
        all.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.1.cmp(&b.1)));
        all.dedup_by(|a, b| a.1 == b.1);
        let Some(longest) = all.first().map(|(_, value)| value.len()) else { return Secrets(None) };
        let search = AhoCorasick::new(all.iter().map(|(_, value)| value)).expect("an environment is no gigabyte");
        Secrets(Some(Arc::new(SecretIndex { entries: all, automaton: search, max_len: longest })))
    }

    /// Replaces each character of a secret with `*`, so that all other characters keep their offsets.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.mask_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    fn mask_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(known) = &self.0 else { return Cow::Borrowed(bytes) };
        let hidden = known.secret_bytes(bytes);
        if hidden.contains(&true) { Cow::Owned(replace_secret_bytes(bytes, &hidden)) } else { Cow::Borrowed(bytes) }
    }

    /// The name of the variable whose value occurs in the text.
    pub fn find_name(&self, text: &str) -> Option<&str> {
        let known = self.0.as_ref()?;
        let found = known.automaton.find(text)?;
        known.entries.get(found.pattern().as_usize()).map(|(name, _)| name.as_str())
    }

    /// A mask for a text that arrives in pieces.
    pub fn mask_stream(&self) -> MaskStream {
        MaskStream { secrets: self.clone(), buffered: Vec::new(), secret_bytes: Vec::new() }
    }

    /// A masking writer for a log.
    pub fn mask_writer<W: Write>(&self, inner: W) -> MaskedWriter<W> {
        MaskedWriter { secrets: self.clone(), inner }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.as_ref().map_or(0, |known| known.entries.len()))
    }
}

impl SecretIndex {
    /// Marks the bytes that belong to a secret. Secrets may overlap.
    fn secret_bytes(&self, bytes: &[u8]) -> Vec<bool> {
        let mut hidden = vec![false; bytes.len()];
        for found in self.automaton.find_overlapping_iter(bytes) {
            hidden[found.range()].fill(true);
        }
        hidden
    }

    /// The offset from which the bytes may be the beginning of a secret.
    fn partial_match_start(&self, bytes: &[u8]) -> usize {
        let begins = |at: &usize| self.entries.iter().any(|(_, value)| value.as_bytes().starts_with(&bytes[*at..]));
        let first = bytes.len().saturating_sub(self.max_len.saturating_sub(1));
        (first..bytes.len()).find(begins).unwrap_or(bytes.len())
    }
}

/// The value itself, its escaped form as in JSON or a log, and that form escaped again.
fn escaped_forms(value: &str) -> [String; 3] {
    let quoted = |text: &str| {
        let json = serde_json::Value::from(text).to_string();
        json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or_default().to_owned()
    };
    let once = quoted(value);
    [value.to_owned(), once.clone(), quoted(&once)]
}

/// The path of an existing file is no secret, whatever its variable is called (GOOGLE_APPLICATION_CREDENTIALS).
fn is_existing_path(value: &str) -> bool {
    let path = Path::new(value);
    path.is_absolute() && path.exists()
}

/// Writes one `*` per hidden character, regardless of its length in bytes.
fn replace_secret_bytes(bytes: &[u8], hidden: &[bool]) -> Vec<u8> {
    let goes_on = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let pairs = bytes.iter().zip(hidden);
    pairs
        .filter(|(byte, hidden)| !(**hidden && goes_on(**byte)))
        .map(|(byte, hidden)| if *hidden { b'*' } else { *byte })
        .collect()
}

/// Masks a text that arrives in pieces, including a secret that is split across pieces. A possible beginning of a
/// secret is held back until more bytes arrive; at most the length of the longest secret is held back.
#[derive(Debug)]
pub struct MaskStream {
    secrets: Secrets,
    buffered: Vec<u8>,
    /// Marks the held bytes that are already known to belong to a secret.
    secret_bytes: Vec<bool>,
}

impl MaskStream {
    /// Adds a piece and returns the bytes that are certain so far.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(known) = &self.secrets.0 else { return Cow::Borrowed(bytes) };
        let nothing_held = self.buffered.is_empty();
        self.buffered.extend_from_slice(bytes);
        let mut hidden = known.secret_bytes(&self.buffered);
        hidden.iter_mut().zip(&self.secret_bytes).for_each(|(now, before)| *now |= before);
        let open = known.partial_match_start(&self.buffered);
        if nothing_held && open == bytes.len() && !hidden.contains(&true) {
            self.buffered.clear();
            return Cow::Borrowed(bytes);
        }
        let certain = replace_secret_bytes(&self.buffered[..open], &hidden[..open]);
        self.buffered.drain(..open);
        self.secret_bytes = hidden.split_off(open);
        Cow::Owned(certain)
    }

    /// The bytes that were held back, at the end of the text.
    pub fn finish(&mut self) -> Vec<u8> {
        let hidden = std::mem::take(&mut self.secret_bytes);
        replace_secret_bytes(&std::mem::take(&mut self.buffered), &hidden)
    }
}

/// Masks each write separately: a log writes whole lines.
#[derive(Debug)]
pub struct MaskedWriter<W> {
    secrets: Secrets,
    inner: W,
}

impl<W: Write> Write for MaskedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(&self.secrets.mask_bytes(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(values: &[&str]) -> Secrets {
        Secrets::from_variables(values.iter().enumerate().map(|(n, value)| (format!("KEY_{n}"), (*value).to_owned())))
    }

    /// The output of a stream for a text in pieces of `step` bytes.
    fn streamed(secrets: &Secrets, text: &str, step: usize) -> String {
        let mut mask = secrets.mask_stream();
        let mut out = Vec::new();
        text.as_bytes().chunks(step).for_each(|piece| out.extend_from_slice(&mask.push(piece)));
        out.extend(mask.finish());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn each_character_of_a_secret_is_a_star_and_nothing_else_moves() {
        let secrets = known(&["sk-12345678", "zażółć-gęślą"]);
        assert_eq!(secrets.mask("a sk-12345678! zażółć-gęślą."), "a ***********! ************.");
        assert!(matches!(secrets.mask("sk-1234567"), Cow::Borrowed(_)));
    }

    #[test]
    fn secrets_that_overlap_are_masked_to_the_end_of_the_last() {
        let secrets = known(&["abcdefgh", "efghijklmnop", "abcdefghXY"]);
        assert_eq!(secrets.mask("-abcdefghijklmnop-abcdefghXY-"), "-****************-**********-");
    }

    #[test]
    fn a_stream_cut_anywhere_is_masked_as_the_whole_is() {
        let secrets = known(&["sk-12345678", "efghijklmnop", "abcdefgh", "zażółć-gęślą"]);
        let text = "sk-123 sk-12345678 abcdefghijklmnop abcdefghi zażółć-gęślą sk-1234567sk-12345678 sk-1234";
        for step in 1..text.len() {
            assert_eq!(streamed(&secrets, text, step), secrets.mask(text), "pieces of {step}");
        }
    }

    #[test]
    fn only_what_may_become_a_secret_is_held_back() {
        let secrets = known(&["sk-12345678"]);
        let mut mask = secrets.mask_stream();
        assert_eq!(mask.push(b"a line\n").as_ref(), b"a line\n");
        assert_eq!(mask.push(b"a key: sk-12").as_ref(), b"a key: ");
        assert_eq!(mask.push(b"3 and more").as_ref(), b"sk-123 and more");
    }

    #[test]
    fn a_secret_is_known_in_quotes_too() {
        let secrets = known(&["canary \"of\" the\\base\n"]);
        let told = format!("{:?}", "it is canary \"of\" the\\base.");
        assert_eq!(secrets.mask(&told), format!("\"it is {}.\"", "*".repeat(23)));
        assert!(!secrets.mask(&format!("{told:?}")).contains("canary"));
    }

    #[test]
    fn whole_parts_of_a_name_say_that_it_holds_a_secret() {
        for name in [
            "OPENAI_API_KEY",
            "GEMINI_API_KEY_2",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "HF_TOKEN",
            "npm_config__authToken",
            "PGPASSWORD",
            "OPENAI_APIKEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SECRET_KEY_BASE",
            "API_TOKENS",
            "db_password",
            "MASSGEN_MCP_SECRET_1",
            "KEY",
            "ApiKey",
            "SSH_PASSPHRASE",
            "clientSecret",
        ] {
            assert!(has_secret_word(name), "{name}");
        }
        for name in [
            "GIT_CONFIG_KEY_0",
            "KEYCLOAK_URL",
            "KEYRING_BACKEND",
            "TOKENIZERS_PARALLELISM",
            "MONKEY_MODE",
            "SECRETARY",
            "KEYBOARD",
            "PASSWORDLESS_LOGIN",
            "MASSGEN_MCP_MAX_TOKENS",
            "MAX_TOKENS",
            "HOTKEY",
            "PATH",
            "",
        ] {
            assert!(!has_secret_word(name), "{name}");
        }
    }

    #[test]
    fn the_operator_says_more_and_less() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let named = SecretNameRules { masked: names(&["CORP_*", "LOGIN"]), shown: names(&["PUBLIC_KEY", "CORP_NAME"]) };
        for (name, said) in [
            ("CORP_ID", Some(true)),
            ("LOGIN", Some(true)),
            ("LOGINS", None),
            ("PUBLIC_KEY", Some(false)),
            ("CORP_NAME", Some(false)),
            ("HOME", None),
        ] {
            assert_eq!(named.classify(name), said, "{name}");
        }
    }

    #[test]
    fn only_values_of_keys_count_and_the_rehearsals_is_none() {
        let variables = [("HOME", "somewhere-long"), ("MY_API_KEY", " canary-one\n"), ("db_password", "canary-two")];
        let variables = variables.into_iter().chain([
            ("A_TOKEN", "short"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("KEYCLOAK_URL", "http://localhost:8080"),
            ("OPENAI_API_KEY", REHEARSAL_KEY),
            ("KEY_FILE", "/proc/self"),
        ]);
        let secrets = Secrets::from_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(secrets.find_name("my canary-one here"), Some("MY_API_KEY"));
        assert_eq!(secrets.find_name("canary-two"), Some("db_password"));
        assert_eq!(secrets.find_name("@rehearsal in somewhere-long, short, /proc/self, safe.directory"), None);
        assert_eq!(secrets.find_name("http://localhost:8080"), None);
        assert_eq!(secrets.with_values(["canary-three".to_owned()]).find_name("canary-three"), Some(UNNAMED_SECRET));
    }

    #[test]
    fn an_env_file_is_read_and_its_content_is_never_in_an_error() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join(".env");
        std::fs::write(&path, "# keys\nexport A_KEY='canary one'\nB=2\n").expect("write");
        assert_eq!(
            read_env_file(&path).expect("read"),
            [("A_KEY".to_owned(), "canary one".to_owned()), ("B".to_owned(), "2".to_owned())]
        );
        assert_eq!(Secrets::from_environment(Some(&path)).expect("read").find_name("canary one"), Some("A_KEY"));
        std::fs::write(&path, "canary two without a name\n").expect("write");
        let error = read_env_file(&path).expect_err("malformed");
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert!(matches!(read_env_file(&folder.path().join("none")), Err(EnvFileError::Unreadable { .. })));
    }

    #[test]
    fn a_log_is_masked_and_no_secret_is_shown_by_debug() {
        let secrets = known(&["canary-one"]);
        let mut log = secrets.mask_writer(Vec::new());
        log.write_all(b"it is canary-one.\n").expect("written");
        assert_eq!(log.inner, b"it is **********.\n");
        assert_eq!(format!("{secrets:?} {:?}", secrets.mask_stream()).matches("canary").count(), 0);
    }
}
