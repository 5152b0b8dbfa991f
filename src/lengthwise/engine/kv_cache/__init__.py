"""The KV cache of one sequence: what is kept, where it stands, and who decides.

    sequence --> layer_cache --> head_group --> kv_store (near, far) --> parts --> attention
                      ^               ^              ^
                 step_metadata    placement       offload
                                  selection, retention, codec: the roles of methods

- `sequence`: tokens and layers; `layer_cache`: one layer; `head_group`: key heads of one policy.
- `kv_store`: where entries live, `offload` off the device; `entries`: keys, values, birth ids.
- `step_metadata`: the new tokens of a forward; `new_parts`: what they see of each other.
- `placement`: where a token stands, as data; `cache_plan`: what a recipe says about the cache.
- `selection`, `retention`, `codec`: what the cache asks of a method; `observed`, `received`: the
  attention that entries get from the queries of a forward, and from the last of a prompt.
"""
