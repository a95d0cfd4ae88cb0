-- What both writers and the reader ask of a table.

local M = { SAMPLE = 8 }

local function is_number(text) return text == '' or text:match('^[–—−+-]?%s*[%d.,±–—−()%[%]%s%%×+-]*$') ~= nil end

function M.body_rows(tbl)
  local rows = pandoc.List()
  for _, body in ipairs(tbl.bodies) do
    rows:extend(body.head)
    rows:extend(body.body)
  end
  rows:extend(tbl.foot.rows)
  return rows
end

-- Long words may be broken behind their punctuation, or anywhere if they have none (hashes).
local BREAK = '\u{200b}'
local LONG = 16

function M.break_words(tbl)
  return tbl:walk({ Str = function(str)
    local text = str.text
    if #text <= LONG or is_number(text) then return nil end
    text = text:gsub('([*_=/,;:(+@.-])(%a)', '%1' .. BREAK .. '%2')
    return pandoc.Str((text:gsub(('[%w]'):rep(LONG), '%0' .. BREAK)))
  end })
end

local function longest_word(text)
  local longest = 0
  for word in text:gsub(BREAK, ' '):gmatch('%S+') do longest = math.max(longest, utf8.len(word) or #word) end
  return longest
end

-- The cell among the few longest of a column, if it is one of them.
local function keep_longest(longest, cell, length)
  local place = #longest + 1
  while place > 1 and longest[place - 1].length < length do place = place - 1 end
  if place > M.SAMPLE then return end
  table.insert(longest, place, { cell = cell, length = length })
  longest[M.SAMPLE + 1] = nil
end

-- Of each column: its longest entry and longest word in characters, whether all entries are numbers, and its `SAMPLE`
-- longest cells. Heads count for words alone, and cells that span columns for nothing.
function M.columns(tbl)
  local columns, held = {}, {}
  for index = 1, #tbl.colspecs do columns[index] = { length = 0, word = 0, numeric = true, longest = {} } end
  local function take(rows, is_head)
    for _, row in ipairs(rows) do
      local index = 1
      for _, cell in ipairs(row.cells) do
        while held[index] and held[index] > 0 do
          held[index], index = held[index] - 1, index + 1
        end
        local column, text = columns[index], pandoc.utils.stringify(cell.contents)
        if column and cell.col_span == 1 then
          column.word = math.max(column.word, longest_word(text))
          if not is_head then
            local length = utf8.len(text) or #text
            column.length = math.max(column.length, length)
            keep_longest(column.longest, cell, length)
            column.numeric = column.numeric and is_number(text)
          end
        end
        for offset = 0, cell.col_span - 1 do held[index + offset] = cell.row_span - 1 end
        index = index + cell.col_span
      end
    end
  end
  take(tbl.head.rows, true)
  held = {}
  take(M.body_rows(tbl), false)
  return columns
end

return M
