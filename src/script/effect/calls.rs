//! Functions that a statement calls, and which of them are known to do no harm.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::super::lexer::Kind;
use super::super::words::{MOST, Words};
use super::names::{behind_name, is_comma, name};
use super::query::is_name_of_with;

/// The first function called in `from..to` that is not known to be harmless, as it was written.
///
/// Operators, casts, views, triggers and defaults call functions too, of which the text says nothing.
pub(super) fn unknown(words: &Words, from: usize, to: usize) -> Option<String> {
    let distinct_on = (from..to).any(|i| words.is(i, "DISTINCT") && words.is(i + 1, "ON"));
    let mut at = from;
    while at < to {
        let Some(behind) = behind_name(words, at) else {
            at += 1;
            continue;
        };
        if words.kind(behind) == Some(Kind::OpenParen)
            && is_call(words, at, distinct_on)
            && let Some((called, _)) = name(words, at)
            && !is_harmless(&called)
        {
            return Some(format!("{called}()"));
        }
        at = behind;
    }
    // The rest of it was not kept.
    (words.len() >= MOST && to >= MOST).then(|| "what stands behind its first words".to_owned())
}

/// Whether the name at `at`, with a parenthesis behind it, is a function's.
fn is_call(words: &Words, at: usize, distinct_on: bool) -> bool {
    let before = at.saturating_sub(1);
    // Names with a list of columns: INSERT INTO t (a), REFERENCES t (a), AS t (a); and types: AS numeric (9).
    let named = ["INTO", "REFERENCES", "AS", "TABLE", "UPDATE", "ONLY"];
    if named.iter().any(|word| words.is(before, word)) || words.text(before) == ":" || words.text(before) == "::" {
        return false;
    }
    // (VALUES …) v (a, b)
    if words.kind(before) == Some(Kind::CloseParen) && !distinct_on {
        return false;
    }
    !is_name_of_with(words, at) && !is_grammar(words, at, before)
}

/// Whether the word is a part of the grammar where it stands.
fn is_grammar(words: &Words, at: usize, before: usize) -> bool {
    if words.kind(at) != Some(Kind::Word) {
        return false;
    }
    let word = words.text(at).to_ascii_lowercase();
    let keyword = |word: &str| KEYWORDS.contains(word);
    keyword(&word) && words.kind(at + 1) != Some(Kind::Dot)
        || matches!(word.as_str(), "over" | "filter") && words.kind(before) == Some(Kind::CloseParen)
        // UPDATE t SET (a, b) = …
        || word == "set" && !keyword(&words.text(before).to_ascii_lowercase()) && !is_comma(words, before)
        || BEHIND.iter().any(|(one, behind)| *one == word && behind.iter().any(|behind| words.is(before, behind)))
}

fn is_harmless(called: &str) -> bool {
    let bare = match called.rsplit_once('.') {
        None => called,
        Some(("pg_catalog", bare)) => bare,
        Some(_) => return false,
    };
    HARMLESS.contains(bare)
}

/// Functions of pg_catalog that read what they are given, or say something of the session: none runs SQL that it is
/// given, and none writes, but that nextval takes a number and set_config sets a setting.
const FUNCTIONS: &str = "\
    abbrev abs acos acosd age any_value array_agg array_append array_cat array_dims array_fill array_length \
    array_lower array_ndims array_position array_positions array_prepend array_remove array_replace \
    array_reverse array_sample array_shuffle array_sort array_to_json array_to_string array_upper ascii asin \
    asind atan atan2 atand avg bit_and bit_count bit_length bit_or bool bool_and bool_or bpchar broadcast \
    btrim cardinality cbrt ceil ceiling char_length character_length chr clock_timestamp col_description \
    concat concat_ws convert convert_from convert_to corr cos cosd cot count covar_pop covar_samp cume_dist \
    current_database current_schema current_schemas current_setting currval date date_bin date_part date_trunc \
    daterange decode degrees dense_rank div encode every exp factorial family first_value float4 float8 floor \
    format format_type gcd gen_random_uuid generate_series generate_subscripts get_bit get_byte \
    getdatabaseencoding has_column_privilege has_database_privilege has_function_privilege \
    has_language_privilege has_schema_privilege has_sequence_privilege has_table_privilege has_type_privilege \
    hashtext host hostmask inet_client_addr inet_same_family inet_server_addr initcap int2 int4 int4range int8 \
    int8range interval isempty isfinite json_agg json_array_elements json_array_elements_text \
    json_array_length json_build_array json_build_object json_each json_each_text json_extract_path \
    json_extract_path_text json_object json_object_agg json_object_keys json_populate_record \
    json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_agg \
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object \
    jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object \
    jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_query jsonb_path_query_array \
    jsonb_path_query_first jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax \
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof justify_days justify_hours \
    justify_interval lag last_value lastval lcm lead left length ln log log10 lower lower_inc lpad ltrim \
    macaddr8_set7bit make_date make_interval make_time make_timestamp make_timestamptz masklen max md5 min mod \
    mode netmask network nextval now nth_value ntile num_nonnulls num_nulls numeric numrange obj_description \
    octet_length overlay parse_ident percent_rank percentile_cont percentile_disc pg_backend_pid \
    pg_client_encoding pg_column_size pg_conf_load_time pg_current_xact_id pg_database_size \
    pg_get_constraintdef pg_get_expr pg_get_functiondef pg_get_indexdef pg_get_serial_sequence pg_get_viewdef \
    pg_has_role pg_indexes_size pg_is_in_recovery pg_postmaster_start_time pg_relation_size pg_size_pretty \
    pg_table_is_visible pg_table_size pg_total_relation_size pg_typeof phraseto_tsquery pi plainto_tsquery \
    position power quote_ident quote_literal quote_nullable radians random random_normal range_agg range_merge \
    rank regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace \
    regexp_split_to_array regexp_split_to_table regexp_substr regr_intercept regr_r2 regr_slope repeat replace \
    reverse right round row_number row_security_active row_to_json rpad rtrim scale set_config set_masklen \
    setseed setweight sha224 sha256 sha384 sha512 shobj_description sign sin sind split_part sqrt starts_with \
    statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strip strpos \
    substr substring sum tan tand text time timeofday timestamp timestamptz to_char to_date to_hex to_json \
    to_jsonb to_number to_regclass to_regnamespace to_regproc to_regrole to_regtype to_timestamp to_tsquery \
    to_tsvector transaction_timestamp translate trim_array trim_scale trunc ts_headline ts_rank ts_rank_cd \
    tsrange tstzrange txid_current unistr unnest upper upper_inc uuidv4 uuidv7 var_pop var_samp varchar \
    variance version websearch_to_tsquery width_bucket xmlagg";

/// Looked up for each name before a parenthesis, of which a long INSERT has many.
static HARMLESS: LazyLock<HashSet<&str>> = LazyLock::new(|| functions().collect());
static KEYWORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| GRAMMAR.split(' ').collect());

/// The names in [`FUNCTIONS`].
pub(super) fn functions() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.split(' ')
}

/// Keywords that nobody's function is called without quotes.
const GRAMMAR: &str = "\
    all and any array as asc asymmetric between bigint bit boolean case cast char character coalesce collation \
    cross current_time current_timestamp decimal desc distinct do else except exists extract fetch float for \
    from full greatest group grouping having ilike in inner int integer intersect interval into is isnull join \
    json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize \
    json_table json_value lateral least left like limit localtime localtimestamp merge_action natural nchar \
    normalize not notnull nullif offset on only or order outer overlay position precision real returning right \
    row select similar smallint some substring symmetric tablesample then time timestamp to treat trim union \
    unique using values when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlparse \
    xmlpi xmlroot xmlserialize xmltable";

/// Keywords that a function may be called, with the words behind which they are none.
const BEHIND: &[(&str, &[&str])] = &[
    ("by", &["GROUP", "ORDER", "PARTITION"]),
    ("conflict", &["ON"]),
    ("cube", &["BY"]),
    ("insert", &["THEN"]),
    ("materialized", &["AS", "NOT"]),
    ("rollup", &["BY"]),
    ("sets", &["GROUPING"]),
    ("varying", &["BIT", "CHAR", "CHARACTER"]),
];
