"""What agentkit does with each vendor, and the test that shows it: the table in docs/reference/providers.md.

    python -m tests.vendor_features

prints the table, for docs/reference/providers.md; tests/unit/test_vendor_features.py sees that both agree and that each
test is there. A cell without a test is "untested": nothing is claimed about it.
"""

from __future__ import annotations

import sys

__all__ = ["COLUMNS", "FEATURES", "UNTESTED", "table"]

Cell = tuple[str, str]
"""What stands in the table, and the test: `path::name` or `path::Class::name`, the path below tests/, without `.py`."""

UNTESTED = ("untested", "")
COLUMNS = ("openai-responses", "openai-completions", "anthropic", "bedrock", "vertex", "google", "ollama")
_CONTRACTS = (
    "integration/test_responses_provider::TestOpenAIResponsesProvider",
    "integration/test_openai_provider::TestOpenAIProvider",
    "integration/test_anthropic_provider::TestAnthropicProvider",
    "integration/test_bedrock_provider::TestBedrockProvider",
    "integration/test_vertex_provider::TestVertexProvider",
    "integration/test_google_provider::TestGoogleProvider",
    "integration/test_ollama_provider::TestOllamaProvider",
)
_RESPONSES, _COMPLETIONS = "unit/test_responses_request", "unit/test_openai_codec"
_CLAUDE, _SERVER_TOOLS = "unit/test_anthropic_request", "unit/test_anthropic_server_tools"
_GOOGLE, _OLLAMA = "unit/test_google_request", "unit/test_ollama_codec"
_CHOICE, _MEDIA = "integration/test_tool_choice", "unit/test_media_of_vendors"
_INPUTS = "unit/test_inputs"
_CLOUD: Cell = ("as `anthropic`", "integration/test_claude_on_clouds::test_a_cloud_is_sent_what_anthropic_is_sent")
_CLOUDS = (_CLOUD, _CLOUD)
"""Bedrock and Vertex AI (Claude there) are sent the body that Anthropic is sent."""

_SDK = ("yes", "integration/test_vendor_sdks::test_what_the_vendors_sdk_reads_we_read")
_ANY_SHAPE = (
    "yes",
    "integration/test_vendor_fuzz::test_a_run_ends_whatever_its_first_answer_is_and_pays_for_no_call_twice",
)


def _by_contract(test: str, **words: str) -> tuple[Cell, ...]:
    """A row that the contract suite shows; `words` where a column has others than "yes"."""
    cells = zip(COLUMNS, _CONTRACTS, strict=True)
    return tuple((words.get(column.replace("-", "_"), "yes"), f"{contract}::{test}") for column, contract in cells)


FEATURES: dict[str, tuple[Cell, ...]] = {
    "text in a stream": _by_contract("test_a_text_arrives_in_parts_and_ends_with_one_finish"),
    "tools, parallel calls": _by_contract(
        "test_parallel_tool_calls_arrive_with_their_arguments_in_pieces", ollama="yes, each whole"
    ),
    "one call a turn, by option": (
        ("yes", f"{_RESPONSES}::test_other_options_pass_as_they_are_and_tools_of_the_vendor_follow_the_agents"),
        ("yes", f"{_CHOICE}::test_one_call_a_turn_is_asked_for_in_each_vendors_words"),
        ("yes", f"{_CHOICE}::test_one_call_a_turn_is_asked_for_in_each_vendors_words"),
        *_CLOUDS,
        ("no", f"{_GOOGLE}::test_options_go_where_google_wants_them"),
        ("no", f"{_OLLAMA}::test_options_go_where_ollama_wants_them"),
    ),
    "forced `tool_choice`": (
        ("yes", f"{_RESPONSES}::test_a_tool_choice_of_any_form_is_written_as_this_api_wants_it"),
        ("yes", f"{_CHOICE}::test_a_tool_is_forced_in_the_first_call_after_each_user_message"),
        ("yes", f"{_CHOICE}::test_a_tool_is_forced_in_the_first_call_after_each_user_message"),
        *_CLOUDS,
        ("yes", f"{_CHOICE}::test_a_tool_is_forced_in_the_first_call_after_each_user_message"),
        ("`none` alone", f"{_OLLAMA}::test_tools_that_must_not_be_chosen_are_not_sent"),
    ),
    "effort of thinking": (
        ("yes", f"{_RESPONSES}::test_the_effort_goes_with_a_summary_where_the_model_reasons"),
        ("yes", f"{_COMPLETIONS}::test_the_reasoning_effort_goes_where_the_server_wants_it"),
        ("yes", f"{_CLAUDE}::test_reasoning_effort_becomes_what_the_model_understands"),
        *_CLOUDS,
        ("yes", f"{_GOOGLE}::test_an_effort_is_a_level_or_a_budget_that_the_model_has"),
        ("yes", f"{_OLLAMA}::test_an_effort_becomes_a_level_that_ollama_takes"),
    ),
    "thinking goes back": (
        ("encrypted", f"{_RESPONSES}::test_reasoning_goes_back_to_its_model_with_what_is_encrypted_and_without_its_id"),
        ("where servers read it", "unit/test_compat::test_thinking_goes_back_to_those_who_read_it"),
        ("signed", f"{_CLAUDE}::test_signed_and_redacted_thinking_goes_back_to_its_author"),
        *_CLOUDS,
        ("signed", f"{_GOOGLE}::test_thinking_that_google_signed_goes_back_and_other_thinking_does_not"),
        ("yes", f"{_OLLAMA}::test_calls_results_and_own_thinking_are_sent_back"),
    ),
    "the vendor's own tools": (
        ("yes", f"{_RESPONSES}::test_what_a_tool_of_the_vendor_did_goes_back_as_it_came"),
        UNTESTED,
        ("yes", f"{_SERVER_TOOLS}::test_an_answer_goes_back_block_for_block"),
        *_CLOUDS,
        ("yes", f"{_GOOGLE}::test_tools_of_googles_join_ours"),
        UNTESTED,
    ),
    "images": (
        ("yes", f"{_RESPONSES}::test_images_documents_and_sound_of_the_user_are_parts_of_the_message"),
        ("yes", f"{_COMPLETIONS}::test_images_become_data_urls_and_cache_marks_stay_behind"),
        ("yes", f"{_SERVER_TOOLS}::test_documents_and_images_go_along_in_messages_and_results"),
        *_CLOUDS,
        ("yes", f"{_GOOGLE}::test_images_documents_and_sound_are_inline_or_named_by_their_url"),
        ("yes", f"{_OLLAMA}::test_images_go_beside_the_text_and_cache_marks_nowhere"),
    ),
    "images by URL": (
        ("yes", f"{_RESPONSES}::test_images_documents_and_sound_of_the_user_are_parts_of_the_message"),
        ("yes", f"{_MEDIA}::test_chat_completions_carry_links_documents_and_sound"),
        ("yes", f"{_SERVER_TOOLS}::test_documents_and_images_go_along_in_messages_and_results"),
        *[("no: an error", f"{_INPUTS}::test_what_a_model_is_known_not_to_take_is_refused_wherever_it_is_sent")] * 2,
        ("yes", f"{_GOOGLE}::test_images_documents_and_sound_are_inline_or_named_by_their_url"),
        ("no: an error", f"{_MEDIA}::test_ollama_refuses_links_documents_and_sound_with_a_clear_error"),
    ),
    "documents": (
        ("yes", f"{_RESPONSES}::test_images_documents_and_sound_of_the_user_are_parts_of_the_message"),
        ("yes", f"{_MEDIA}::test_chat_completions_carry_links_documents_and_sound"),
        ("yes", f"{_SERVER_TOOLS}::test_documents_and_images_go_along_in_messages_and_results"),
        *_CLOUDS,
        ("yes", f"{_GOOGLE}::test_images_documents_and_sound_are_inline_or_named_by_their_url"),
        ("no: an error", f"{_MEDIA}::test_ollama_refuses_links_documents_and_sound_with_a_clear_error"),
    ),
    "audio": (
        ("yes", f"{_RESPONSES}::test_images_documents_and_sound_of_the_user_are_parts_of_the_message"),
        ("yes", f"{_MEDIA}::test_chat_completions_carry_links_documents_and_sound"),
        ("no: an error", f"{_SERVER_TOOLS}::test_what_no_model_of_the_vendor_takes_is_a_clear_error"),
        *_CLOUDS,
        ("yes", f"{_GOOGLE}::test_images_documents_and_sound_are_inline_or_named_by_their_url"),
        ("no: an error", f"{_MEDIA}::test_ollama_refuses_links_documents_and_sound_with_a_clear_error"),
    ),
    "media in tool results": (
        ("yes", f"{_RESPONSES}::test_results_carry_images_and_documents_and_sound_follows"),
        ("images, in a message after", f"{_COMPLETIONS}::test_images_of_results_follow_in_a_user_message"),
        ("yes", f"{_SERVER_TOOLS}::test_documents_and_images_go_along_in_messages_and_results"),
        *_CLOUDS,
        ("yes", f"{_GOOGLE}::test_media_of_a_result_is_inside_it_where_the_model_takes_that"),
        ("images, in a message after", f"{_OLLAMA}::test_images_of_results_follow_in_a_user_message"),
    ),
    "`cache` marks": (
        ("as a key", f"{_RESPONSES}::test_a_cache_mark_gives_the_conversation_a_key_that_stays"),
        ("as a key", f"{_COMPLETIONS}::test_a_cache_mark_anywhere_gives_the_conversation_a_key_that_stays"),
        ("yes", f"{_CLAUDE}::test_marks_of_tools_instructions_messages_and_blocks_become_cache_control"),
        *_CLOUDS,
        ("no: caches by name", f"{_GOOGLE}::test_a_cache_holds_the_instructions_and_the_tools"),
        ("no", f"{_OLLAMA}::test_images_go_beside_the_text_and_cache_marks_nowhere"),
    ),
    "usage, cached tokens apart": _by_contract(
        "test_usage_counts_cached_tokens_apart_from_new_ones", ollama="no cached tokens"
    ),
    "errors, and how long to wait": _by_contract("test_a_refusing_status_is_an_error_with_the_vendors_message"),
    "abort within a second": _by_contract("test_cancelling_ends_the_stream_and_the_connection_within_a_second"),
    "key, headers and URL of the agent": _by_contract("test_what_the_agent_declares_takes_the_place_of_the_settings"),
    "reads what the vendor's SDK reads": (
        *[_SDK] * 4,
        UNTESTED,
        _SDK,
        UNTESTED,
    ),
    "bears answers of any shape": (*[_ANY_SHAPE] * 7,),
}


def table() -> str:
    """The table in Markdown."""
    lines = ["| | " + " | ".join(f"`{column}`" for column in COLUMNS) + " |", "| --- " * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {feature} | " + " | ".join(words for words, _ in cells) + " |" for feature, cells in FEATURES.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
