// SPDX-License-Identifier: MIT
/// @file
/// @brief The names, the word lists and the shared phrases from which the plots are filled.
#pragma once

#include <map>
#include <string_view>
#include <vector>

namespace story_grammar {

/// @brief Names of girls; none of them is also a word that a story uses.
inline const std::vector<std::string_view>& girl_names() {
  static const std::vector<std::string_view> names = {
      "Lily",  "Mia",   "Anna",  "Emma",  "Sara",  "Lucy", "Ella", "Zoe",  "Nora", "Ava",  "Amy",
      "Kate",  "Jane",  "Tina",  "Molly", "Suzy",  "Mary", "Rosa", "Lena", "Maya", "Nina", "Eva",
      "Julia", "Clara", "Sally", "Betty", "Polly", "Mila", "Leah", "Dora", "Ruth", "Kim"};
  return names;
}

/// @brief Names of boys; none of them is also a word that a story uses.
inline const std::vector<std::string_view>& boy_names() {
  static const std::vector<std::string_view> names = {
      "Tom",  "Ben",   "Sam",   "Tim",   "Max",   "Leo",   "Jack", "Noah", "Finn",  "Adam", "Luke",
      "Owen", "Paul",  "Peter", "Billy", "Bobby", "Danny", "Eric", "Fred", "Henry", "John", "Kevin",
      "Liam", "Oscar", "Omar",  "Toby",  "Theo",  "Hugo",  "Jake", "Joe",  "Ken",   "Ravi"};
  return names;
}

/// @brief The word lists: {slot} takes one word and keeps it through the story.
inline const std::map<std::string_view, std::vector<std::string_view>>& word_lists() {
  static const std::map<std::string_view, std::vector<std::string_view>> lists = {
      {"home",
       {"in a small house near the woods", "in a white house by the sea", "in a little house on a hill",
        "in a small town", "in a big city", "in a house with a red door", "in a quiet village", "on a farm",
        "in a tall house next to a park", "in a warm little house", "near a blue lake"}},
      {"toy",
       {"teddy bear", "toy rabbit", "rag doll", "toy car", "toy train", "toy boat", "toy duck", "toy horse", "toy lion",
        "toy robot", "toy bus", "toy dog", "toy plane", "toy elephant"}},
      {"playtoy",
       {"bike", "scooter", "toy train", "truck", "drum", "wagon", "ball", "swing", "toy boat", "toy plane", "jump rope",
        "kite", "toy castle"}},
      {"color", {"red", "blue", "green", "yellow", "pink", "purple", "orange", "white"}},
      {"color2", {"black", "brown", "gray", "yellow", "blue", "white"}},
      {"winged", {"bird", "duck", "owl", "robin", "dove", "crow", "swan"}},
      {"legged", {"rabbit", "squirrel", "fox", "deer", "badger", "hare", "beaver"}},
      {"breakable", {"vase", "lamp", "bowl", "plate", "jar", "teapot", "cup"}},
      {"fruits", {"strawberries", "cherries", "apples", "pears", "plums", "peaches", "grapes", "blueberries", "nuts"}},
      {"fruit", {"apple", "pear", "peach", "plum", "orange", "lemon", "fig"}},
      {"treat", {"cookies", "muffins", "pancakes", "buns", "sandwiches", "cupcakes"}},
      {"flower", {"sunflower", "pumpkin", "melon", "cabbage", "tulip"}},
      {"fast", {"rabbit", "fox", "horse", "deer", "dog", "cat", "goat"}},
      {"slow", {"turtle", "snail", "duckling", "pig", "hedgehog", "frog", "mole"}},
      {"tiny", {"mouse", "ant", "ladybug", "bee", "sparrow", "frog"}},
      {"huge", {"elephant", "bear", "camel", "tiger", "hippo", "moose", "rhino"}},
      {"hungry", {"bear", "mouse", "squirrel", "pig", "rabbit", "raccoon", "monkey", "badger"}},
      {"forest_friend", {"bird", "mouse", "squirrel", "hedgehog", "frog", "rabbit", "beaver"}},
      {"baby", {"puppy", "kitten", "parrot", "rabbit"}},
      {"stall", {"bread", "fish", "flowers", "eggs", "hats", "honey"}},
      {"soup", {"carrot soup", "tomato soup", "chicken soup", "bean soup", "pumpkin soup"}},
      {"wet", {"mouse", "ant", "ladybug", "bee", "butterfly", "beetle", "spider"}},
      {"cold_friend", {"bird", "chick", "lizard", "sparrow", "hedgehog", "squirrel"}},
      {"insect", {"butterfly", "bee", "dragonfly", "beetle"}},
      {"nose", {"carrot", "stone", "potato", "stick"}}};
  return lists;
}

/// @brief Phrases that several plots share: `<rule>` expands one anew each time.
inline const std::map<std::string_view, std::string_view>& shared_rules() {
  static const std::map<std::string_view, std::string_view> rules = {
      {"trait", "[5*little|happy|cheerful|funny|small|young|sweet|nice|good]"},
      {"intro",
       "[9*Once upon a time there was a <trait> {girl} named {A}.|3*Once upon a time there lived a <trait> {girl} "
       "named {A}.|3*Once upon a time a <trait> {girl} named {A} lived {home}.|2*There once was a <trait> {girl} named "
       "{A}.|2*{A} was a <trait> {girl}[ who lived {home}|].]"},
      {"animal_intro",
       "[9*Once upon a time there was a <trait> {animal} named {A}.|4*Once upon a time there lived a <trait> {animal} "
       "named {A}.|2*There once was a <trait> {animal} named {A}.|2*In [the|a green|a deep|an old] forest lived a "
       "<trait> {animal} named {A}.]"},
      {"one_day",
       "[4*One day|One sunny day|One morning|One warm day|One bright morning|One fine day|One quiet afternoon]"},
      {"a_girl", "a [2*little|young|] {girl} named {A}"},
      {"learned",
       "{+MoralValue}[3*{A} learned that|That day, {A} learned that|And so {A} learned that|Now {A} knew that]"},
      {"both_learned",
       "{+MoralValue}[{A} and {B} learned that|That day, {A} and {B} learned that|And so the two friends learned "
       "that]"},
      {"hugged", "[gave {him} a [big |warm |]hug|hugged {him}|took {his} hand|put an arm around {him}]"},
      {"sad", "[3*was sad|felt very sad|was very sad|was sad and wanted to cry]"},
      {"glad", "[3*was very happy|was so happy|felt happy|was full of joy|smiled]"},
      {"dont_worry", "[Do not worry|Do not cry|It is all right|Do not be sad]"},
      {"played_on", "[until the sun went down|all afternoon|until it was time for dinner|all day long]"},
      {"scared", "[was scared|was afraid|was very scared|felt very small]"},
      {"sat_down", "[did not know what to do|sat down in the grass and were sad|sat down under the tree]"},
      {"glad_two", "[were very happy|ran and laughed|felt as light as air]"}};
  return rules;
}

}  // namespace story_grammar
