//! Parses the settings file: TOML into given values, each with its line. A key that is not in the table is an error.
//! Values are not checked here, except `prices`, which only a file can contain.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::reader::{GivenSetting, RawSetting, SettingSource};
use super::{Price, Prices, SettingsError, table};

/// Parses a settings file.
pub(super) fn parse(path: &Path, text: &str) -> Result<BTreeMap<&'static str, GivenSetting>, SettingsError> {
    let file = SettingsFile { path, text };
    let parsed = DeTable::parse(text).map_err(|error| file.not_toml(error))?;
    let mut given = BTreeMap::new();
    for (key, value) in parsed.get_ref() {
        let setting = table::find(key.get_ref()).ok_or_else(|| file.unknown_key(&key.span(), key.get_ref()))?;
        let source = SettingSource::File { path: path.to_owned(), line: file.line(&key.span()) };
        let raw = if setting.key == "prices" {
            RawSetting::Prices(file.prices(value)?)
        } else {
            raw_setting(value.get_ref())
        };
        given.insert(setting.key, GivenSetting { raw, source });
    }
    Ok(given)
}

fn raw_setting(value: &DeValue<'_>) -> RawSetting {
    match value {
        DeValue::String(text) => RawSetting::Text(text.as_ref().into()),
        DeValue::Integer(number) => RawSetting::Scalar(to_decimal(number)),
        DeValue::Float(number) => RawSetting::Scalar(number.to_string()),
        DeValue::Boolean(boolean) => RawSetting::Scalar(boolean.to_string()),
        DeValue::Datetime(datetime) => RawSetting::Unsupported(datetime.to_string()),
        DeValue::Array(values) => {
            let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(Into::into);
            let texts: Option<Vec<_>> = values.iter().map(text).collect();
            texts.map_or_else(
                || RawSetting::Unsupported("a list with other things than texts".to_owned()),
                RawSetting::List,
            )
        }
        DeValue::Table(_) => RawSetting::Unsupported("a table".to_owned()),
    }
}

/// The number in decimal, if it fits in 64 bits.
fn to_decimal(number: &DeInteger<'_>) -> String {
    i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string(), |value| value.to_string())
}

/// A file, to find the line of an error.
struct SettingsFile<'a> {
    path: &'a Path,
    text: &'a str,
}

impl SettingsFile<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    fn not_toml(&self, source: toml::de::Error) -> SettingsError {
        let line = self.line(&source.span().unwrap_or_default());
        SettingsError::NotToml { path: self.path.to_owned(), line, source: Box::new(source) }
    }

    fn unknown_key(&self, span: &Range<usize>, key: &str) -> SettingsError {
        SettingsError::UnknownKey { path: self.path.to_owned(), line: self.line(span), key: key.to_owned() }
    }

    fn prices(&self, value: &Spanned<DeValue<'_>>) -> Result<Prices, SettingsError> {
        let models = self.table("prices", value)?;
        let prices =
            models.iter().map(|(model, price)| Ok((model.get_ref().to_string(), self.price(model.get_ref(), price)?)));
        prices.collect::<Result<_, _>>().map(Prices)
    }

    fn price(&self, model: &str, value: &Spanned<DeValue<'_>>) -> Result<Price, SettingsError> {
        let key = format!("prices.\"{model}\"");
        let parts = self.table(&key, value)?;
        if let Some((part, _)) = parts.iter().find(|(part, _)| !matches!(part.get_ref().as_ref(), "input" | "output")) {
            return Err(self.unknown_key(&part.span(), &format!("{key}.{}", part.get_ref())));
        }
        let usd = |part: &str| match parts.get(part) {
            Some(value) => self.usd(&format!("{key}.{part}"), value),
            None => Err(self.invalid(&key, value, format!("a table with `{part}`"))),
        };
        Ok(Price { input: usd("input")?, output: usd("output")? })
    }

    fn table<'v, 'i>(&self, key: &str, value: &'v Spanned<DeValue<'i>>) -> Result<&'v DeTable<'i>, SettingsError> {
        value.get_ref().as_table().ok_or_else(|| self.invalid(key, value, "a table".to_owned()))
    }

    fn usd(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<f64, SettingsError> {
        let number = match raw_setting(value.get_ref()) {
            RawSetting::Scalar(text) => text.parse::<f64>().ok(),
            RawSetting::Text(_) | RawSetting::List(_) | RawSetting::Prices(_) | RawSetting::Unsupported(_) => None,
        };
        let number = number.filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| self.invalid(key, value, "USD per million tokens, 0 or more".to_owned()))
    }

    fn invalid(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: String) -> SettingsError {
        let index = format!("`{}`, line {}, {key}", self.path.display(), self.line(&value.span()));
        SettingsError::InvalidValue { place: index, value: raw_setting(value.get_ref()).to_string(), wanted: expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(Path::new("x.toml"), text).expect_err("refused").to_string()
    }

    #[test]
    fn each_key_of_the_table_is_read_with_its_line() {
        for (index, setting) in table::TABLE.iter().filter(|setting| setting.key != "prices").enumerate() {
            let text = format!("{}{} = 0x10\n", "# a line\n".repeat(index), setting.key);
            let given = parse(Path::new("x.toml"), &text).expect("reads");
            assert_eq!(given[setting.key].raw, RawSetting::Scalar("16".to_owned()));
            assert_eq!(given[setting.key].source, SettingSource::File { path: "x.toml".into(), line: index + 1 });
        }
    }

    #[test]
    fn invalid_toml_and_unknown_keys_are_refused_with_their_line() {
        assert_eq!(refused("\nmax_runs = \n"), "`x.toml`, line 2: this is not TOML");
        assert_eq!(refused("max_runs = 1\nmax_run = 2"), "`x.toml`, line 2: there is no setting `max_run`");
        assert_eq!(refused("[limits]\nmax_runs = 1"), "`x.toml`, line 1: there is no setting `limits`");
    }

    #[test]
    fn prices_are_complete_or_refused_by_name() {
        let given = parse(Path::new("x.toml"), "[prices.\"gpt-5.1\"]\ninput = 1.25\noutput = 10").expect("reads");
        let expected = [("gpt-5.1".to_owned(), Price { input: 1.25, output: 10.0 })];
        assert_eq!(given["prices"].raw, RawSetting::Prices(Prices(expected.into())));
        for (text, part) in [
            ("prices = 3", "line 1, prices: `3` is not a table"),
            ("[prices.m]\ninput = 1", "prices.\"m\": `a table` is not a table with `output`"),
            ("[prices.m]\ninput = 1\noutput = -1", "line 3, prices.\"m\".output: `-1` is not USD"),
            ("[prices.m]\ninput = 1\noutput = nan", "`nan` is not USD"),
            ("[prices.m]\ninput = 1\noutput = 2\ncached = 1", "line 4: there is no setting `prices.\"m\".cached`"),
        ] {
            assert!(refused(text).contains(part), "{text}: {}", refused(text));
        }
    }
}
