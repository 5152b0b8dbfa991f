"""Workflows: many calls of one model for one task, with text in and text out alone.

    agentwrite.AgentWrite    a long text: a plan, and then part by part
      writing_plan           the plan: read from what a model says, and fitted to the words
      writing_prompts        what is asked, and what of the text so far is shown
      writing_part           one part: its sentences as they come, repeated ones left out
      writing_journal        the parts that are done, on the disk
    batchprompt.BatchPrompt  many items a prompt, in several orders, and a vote
      batch_answers          a label for each number, from what a model says
      batch_votes            votes of an item, and when they suffice
      batch_results          the items that are done, on the disk

They see a model as a `methods.prompts.TextModel`, so that one of ours and one behind an API are the
same to them. The face for users is in `api`.
"""
